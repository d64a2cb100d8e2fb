import os
import threading
import urllib.request

from serve import serve


def say(_):
    headers = {"Authorization": os.environ["TOKEN"]}
    request = urllib.request.Request(os.environ["HUB"], headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=5).read().decode()
    except OSError as error:
        return f"no hub: {error}"


threading.Thread(target=serve, args=(8002, say), daemon=True).start()
serve(8000, say)
