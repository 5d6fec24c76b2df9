module moorgate.bench/pods

go 1.26
