import os

from serve import serve


def say(request):
    known = request.headers.get("Authorization") == os.environ["TOKEN"]
    return f"jupyterhub {os.environ['VERSION']}" if known else "who are you?"


serve(8082, say)
