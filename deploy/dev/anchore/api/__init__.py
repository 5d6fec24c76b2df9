"""The operations of the API, one module per kind of resource; `operations.table()` gathers them."""
