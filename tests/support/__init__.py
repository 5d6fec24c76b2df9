"""One module per neighbour: how the tests reach NATS, Anchore and Kubernetes."""
