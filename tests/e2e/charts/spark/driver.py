import os
import threading

from serve import serve

executors = set()


def say(request):
    if request.path == "/register":
        executors.add(request.client_address[0])
    return f"spark {os.environ['VERSION']} {'complete' if len(executors) > 1 else 'waits'}"


threading.Thread(target=serve, args=(4040, say), daemon=True).start()
serve(7078, say)
