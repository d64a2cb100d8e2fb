import os
import socket

from serve import serve

serve(15432, lambda _: f"database {os.environ['VERSION']} of {socket.gethostname()}")
