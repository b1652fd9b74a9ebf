"""Python's own http.server over the folder it is started in."""

import http.server
import pathlib

pathlib.Path("hello.txt").write_text("hello from python\n")
pathlib.Path("large.bin").write_bytes(bytes(range(256)) * 20_000)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print("port", server.server_address[1], flush=True)
server.serve_forever()
