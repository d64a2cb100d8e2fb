import os

from serve import serve

serve(9000, lambda _: f"ingress {os.environ['VERSION']}")
