import os

from api import get
from serve import serve


def say(_):
    try:
        return f"argo {os.environ['VERSION']} sees pods: {bool(get('v1', 'pods')['items'])}"
    except OSError as error:
        return f"no API server: {error}"


serve(12746, say)
