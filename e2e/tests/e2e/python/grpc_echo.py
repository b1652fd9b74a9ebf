"""A gRPC service of bytes without generated code, and a client that tries every kind of call on it."""

import json
import sys
from concurrent import futures

import grpc


def unary(request, context):
    context.set_trailing_metadata((("x-kind", "unary"),))
    return b"echo " + request


def server_streaming(request, context):
    for n in range(int(request)):
        yield b"part %d" % n
    context.set_trailing_metadata((("x-parts", request.decode()),))


def client_streaming(requests, context):
    return b"+".join(requests)


def duplex(requests, context):
    for request in requests:
        yield b"echo " + request


def failing(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 %")


def endless(request, context):
    context.add_callback(lambda: print("cancelled", flush=True))
    n = 0
    while context.is_active():
        yield b"%d" % n
        n += 1


def serve():
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStreaming": grpc.unary_stream_rpc_method_handler(server_streaming),
        "ClientStreaming": grpc.stream_unary_rpc_method_handler(client_streaming),
        "Duplex": grpc.stream_stream_rpc_method_handler(duplex),
        "Failing": grpc.unary_unary_rpc_method_handler(failing),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def call(address):
    told = {}
    with grpc.insecure_channel(address) as channel:
        reply, info = channel.unary_unary("/echo.Echo/Unary").with_call(b"hello", timeout=20)
        told["unary"] = [reply.decode(), dict(info.trailing_metadata()).get("x-kind")]
        parts = channel.unary_stream("/echo.Echo/ServerStreaming")(b"5", timeout=20)
        told["server_streaming"] = [part.decode() for part in parts] + [dict(parts.trailing_metadata()).get("x-parts")]
        told["client_streaming"] = channel.stream_unary("/echo.Echo/ClientStreaming")(iter([b"a", b"b", b"c"]), timeout=20).decode()
        told["duplex"] = talk(channel)
        try:
            channel.unary_unary("/echo.Echo/Failing")(b"", timeout=20)
        except grpc.RpcError as error:
            told["failing"] = [error.code().name, error.details(), dict(error.trailing_metadata()).get("x-why")]
        endless_call = channel.unary_stream("/echo.Echo/Endless")(b"", timeout=20)
        next(endless_call)
        endless_call.cancel()
        told["large"] = len(channel.unary_unary("/echo.Echo/Unary")(b"x" * 3_000_000, timeout=20))
    print(json.dumps(told))


def talk(channel):
    """Each question is asked only after the answer to the one before."""
    import queue

    questions = queue.Queue()
    answers = channel.stream_stream("/echo.Echo/Duplex")(iter(questions.get, None), timeout=20)
    heard = []
    for n in range(5):
        questions.put(b"%d" % n)
        heard.append(next(answers).decode())
    questions.put(None)
    return heard + [answer.decode() for answer in answers]


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
