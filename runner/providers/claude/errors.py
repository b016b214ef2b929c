"""How a conversation with the client's process can fail, apart from what the client says."""


class Gone(Exception):
    """The client's process has ended."""


class ClientError(Exception):
    """The client refused a control request, or did not answer it in time."""
