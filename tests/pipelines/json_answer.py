"""How the stubs here answer."""

import json


def answer(request, status, facts):
    """Answer a request of `http.server` with JSON, or with text as it is."""
    data = facts.encode() if isinstance(facts, str) else json.dumps(facts).encode()
    request.send_response(status)
    request.send_header("Content-Type", "text/plain" if isinstance(facts, str) else "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
