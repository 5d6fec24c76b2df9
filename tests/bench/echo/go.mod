module moorgate.bench/echo

go 1.26
