"""The gRPC health service without generated code. What it says stands in a file: SERVING, or anything else."""

import sys
from concurrent import futures

import grpc

# grpc.health.v1.HealthCheckResponse: field 1, an enumeration; 1 is SERVING and 2 is NOT_SERVING.
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def check(request, context):
    with open(sys.argv[1]) as file:
        return SERVING if file.read().strip() == "SERVING" else NOT_SERVING


server = grpc.server(futures.ThreadPoolExecutor(4))
handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
