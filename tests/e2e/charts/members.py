"""Counts who registers, as schedulers and drivers do."""

import os


def counting(name):
    members = set()

    def say(request):
        if request.path == "/register":
            members.add(request.client_address[0])
        # While members are replaced both the old and the new ones call.
        return f"{name} {os.environ['VERSION']} {'complete' if len(members) > 1 else 'waits'}"

    return say
