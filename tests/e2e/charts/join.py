"""Registers with SERVER again and again, as workers and executors do."""

import os
import time
import urllib.request

while True:
    try:
        urllib.request.urlopen(os.environ["SERVER"] + "/register", timeout=5).read()
    except OSError as error:
        print(error)
    time.sleep(1)
