import os
import time
import urllib.request

service, version = os.environ["SERVICE"], os.environ["VERSION"]
ranks = []
for rank in range(int(os.environ["WORKERS"])):
    url = f"http://{service}-{rank}.{service}:2222"
    for _ in range(120):
        try:
            ranks.append(urllib.request.urlopen(url, timeout=5).read().decode())
            break
        except OSError:
            time.sleep(0.5)
print("mpi", version, "ranks", *ranks)
