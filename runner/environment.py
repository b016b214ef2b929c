"""What a client's process may see of this process's environment. Pure."""

from collections.abc import Iterable, Mapping

SYSTEM = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "TMPDIR",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TERM",
        "COLORTERM",
        "SSH_AUTH_SOCK",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",
        "REQUESTS_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "IS_SANDBOX",
    ]
)
"""What programs need to find their files and the network; no credentials but those of the network."""


def allowed(environment: Mapping[str, str], names: Iterable[str] = (), prefixes: Iterable[str] = ()) -> dict[str, str]:
    """Return the part of `environment` that a client may see: SYSTEM, LC_*, `names`, and all that begins with a prefix.

    Podium's own settings and secrets (PODIUM_*) are never in it.
    """
    wanted, starts = SYSTEM | set(names), ("LC_", *prefixes)
    return {
        name: value
        for name, value in environment.items()
        if (name in wanted or name.startswith(starts)) and not name.startswith("PODIUM_")
    }
