import os
import threading

from serve import serve

members = set()


def say(request):
    if request.path == "/register":
        members.add(request.client_address[0])
    # While workers are replaced both the old and the new ones call.
    return f"dask {os.environ['VERSION']} {'complete' if len(members) > 1 else 'waits'}"


threading.Thread(target=serve, args=(8787, say), daemon=True).start()
serve(8785, say)
