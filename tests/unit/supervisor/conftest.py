"""Fixtures of the supervisor's tests."""

import ssl

import pytest
import trustme

from .agents import Agent


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def agent(authority: trustme.CA) -> Agent:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return Agent(context)
