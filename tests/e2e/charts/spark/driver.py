import threading

from members import counting
from serve import serve

say = counting("spark")
threading.Thread(target=serve, args=(4040, say), daemon=True).start()
serve(7078, say)
