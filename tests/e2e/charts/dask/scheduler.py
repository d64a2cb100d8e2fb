import threading

from members import counting
from serve import serve

say = counting("dask")
threading.Thread(target=serve, args=(8787, say), daemon=True).start()
serve(8785, say)
