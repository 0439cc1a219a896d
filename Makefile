PYTHON ?= python3

protos:  ## regenerate edge_sdk/protos from protos/*.proto
	$(PYTHON) -m grpc_tools.protoc -I edge_sdk/protos=protos --python_out=. --grpc_python_out=. \
	    --mypy_out=. --mypy_grpc_out=. protos/*.proto

.PHONY: protos
