"""What `make bench-NAME` measures, one module a benchmark."""
