"""Answers each GET with what `say` makes of it; each chart of the tests gets a copy."""

import http.server


def serve(port, say):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = say(self).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("", port), Answer).serve_forever()
