"""Texts with a form: names, addresses, paths, affinity keys.

Each reader raises ValueError with what was expected.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema

from router.core.config import STORE_SCHEMES
from router.core.options import Option, PluginUse
from router.core.payloads import FieldPath
from router.core.slices import SliceKind, SliceSource
from router.core.traffic import AffinityKind, AffinitySource, Backend

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110 section 5.6.2
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_PATH = re.compile(r"/[!$&'()*+,;=:@%A-Za-z0-9._~/-]*")  # RFC 3986 section 3.3
_TOKEN_HASH = re.compile(r"sha256:(?:[0-9a-f]{2})+:[0-9a-f]{64}")
_SCHEMES = {"http": 80, "https": 443}
_STORES = tuple(f"{scheme}://" for scheme in STORE_SCHEMES)


def name(text: str) -> str:
    """Return the name of a Route or Variant: it becomes part of store keys, URLs and metric labels."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name of 1 to 63 letters, digits, dots, dashes and underscores")
    return text


def host(text: str) -> str:
    """Return the host to listen on, in lower case."""
    if not _is_ip(text) and not _HOST.fullmatch(text):
        raise ValueError("an IP address or a host name, without port")
    return text.lower()


def path(text: str) -> str:
    """Return an absolute path."""
    if not _PATH.fullmatch(text) or any(part in (".", "..") for part in text.split("/")):
        raise ValueError("a path like /v2/models/digits: it begins with /, and has no query, space or dot segment")
    return text


def header_name(text: str) -> str:
    """Return the name of a header field in lower case, as names are compared."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("the name of a header field")
    return text.lower()


def header_value(text: str) -> str:
    """Return the value of a header field."""
    if not text.isprintable() or not text.isascii() or text != text.strip():
        raise ValueError("visible ASCII characters without space at either end")
    return text


def network(text: str) -> str:
    """Return a network in CIDR form; a single address is a network of one."""
    try:
        return str(ip_network(text))
    except ValueError:
        pass
    try:
        meant = f", perhaps {ip_network(text, strict=False)}"
    except ValueError:
        meant = ""
    raise ValueError(f"an address or a network like 10.0.0.0/8{meant}")


def backend(value: object) -> Backend:
    """Return the address in a URL that holds only scheme, host and port."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError("a URL like http://127.0.0.1:9001")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("a URL like http://127.0.0.1:9001, with a port from 1 to 65535") from None
    hostname = parts.hostname or ""
    if parts.scheme not in _SCHEMES:
        raise ValueError("a URL that begins with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("a URL without user and password")
    if parts.path not in ("", "/"):
        raise ValueError(f"a URL without a path; write `path: {parts.path}` beside it")
    if "?" in value or "#" in value:
        raise ValueError("a URL without query and fragment")
    if (not _is_ip(hostname) and not _HOST.fullmatch(hostname)) or port == 0 or parts.netloc.endswith(":"):
        raise ValueError("a URL like http://127.0.0.1:9001, with a host and a port from 1 to 65535")
    return Backend(hostname, port or _SCHEMES[parts.scheme], tls=parts.scheme == "https")


def affinity(value: object) -> AffinitySource:
    """Return where `header:NAME`, `cookie:NAME` or `query:NAME` says the affinity key is."""
    kind, _, key = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind not in set(AffinityKind) or not key:
        raise ValueError("header:NAME, cookie:NAME or query:NAME")
    if not _TOKEN.fullmatch(key):
        raise ValueError(f"the name of a {kind} after {kind}:")
    if kind == AffinityKind.HEADER:
        key = key.lower()
        if key == "x-request-id":
            raise ValueError("a header that names the user; with x-request-id each request could choose its side")
    return AffinitySource(AffinityKind(kind), key)


def host_field(text: str) -> str:
    """Return what a variant gets as its Host field: `preserve`, or a host with or without port."""
    if text == "preserve":
        return text
    hostname, mark, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    bare = (hostname if mark else text).removeprefix("[").removesuffix("]")
    if (mark and not port.isdecimal()) or not (_is_ip(bare) or _HOST.fullmatch(bare)):
        raise ValueError("`preserve` (the client's own), or a host with or without port")
    return text


def store_url(text: str) -> str:
    """Return the URL of a Redis or Valkey server, of the sentinels of one, or of a cluster."""
    if not text.startswith(_STORES):
        raise ValueError(f"a URL that begins with {', '.join(_STORES)}; leave it out for the embedded Valkey")
    return text


def token_hash(text: str) -> str:
    """Return the hash of a token; its form is that of `turnout token`."""
    if not _TOKEN_HASH.fullmatch(text):
        raise ValueError("sha256:SALT:DIGEST as printed by `turnout token`, never the token itself")
    return text


def payload_path(value: object) -> FieldPath:
    """Return the field path that is written as text."""
    return FieldPath.parse(value if isinstance(value, str) else "")


def payload_paths(value: object) -> object:
    """Return what is to be read as a list of field paths: none for `false`."""
    if value is True:
        raise ValueError('false, or a list of the fields to keep, such as ["$.inputs[*].name"]; ["$"] keeps all')
    return [] if value is False else value


def slice_source(value: object) -> SliceSource:
    """Return where `header:NAME` or `json:PATH` says the value of a slice is."""
    source = SliceSource.parse(value if isinstance(value, str) else "")
    if source.kind is SliceKind.HEADER and not _TOKEN.fullmatch(source.key):
        raise ValueError("the name of a header field after header:")
    return source


def plugin_use(value: object) -> PluginUse:
    """Return which plug-in is meant: a plain name, or a block with `name` and its options."""
    if isinstance(value, str):
        return PluginUse(value)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError("a plug-in's name, or a block with `name` and options: {name: numeric, abs: 0.01}")  # noqa: TRY004 - pydantic's kind
    options = [(str(key), _option(str(key), one)) for key, one in value.items() if key != "name"]
    return PluginUse(value["name"], tuple(sorted(options, key=lambda option: option[0])))


def _option(key: str, value: object) -> Option:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"text, a number, true, false or a list of texts as the option `{key}`")


def is_loopback(text: str) -> bool:
    """Whether only this machine can reach a listener on this host."""
    return ip_address(text).is_loopback if _is_ip(text) else text == "localhost"


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone is a matter of one machine's interfaces


Name = Annotated[str, AfterValidator(name)]
Host = Annotated[str, AfterValidator(host)]
HostField = Annotated[str, AfterValidator(host_field)]
Path = Annotated[str, AfterValidator(path)]
HeaderName = Annotated[str, AfterValidator(header_name)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
TokenHash = Annotated[str, AfterValidator(token_hash)]
Network = Annotated[str, AfterValidator(network)]
StoreUrl = Annotated[str, AfterValidator(store_url)]
BackendUrl = Annotated[
    Backend,
    PlainValidator(backend),
    WithJsonSchema({"type": "string", "format": "uri", "examples": ["http://127.0.0.1:9001"]}),
]
Affinity = Annotated[
    AffinitySource,
    PlainValidator(affinity),
    WithJsonSchema({"type": "string", "examples": ["header:x-user-id", "cookie:uid", "query:user"]}),
]
Plugin = Annotated[
    PluginUse,
    PlainValidator(plugin_use),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            ],
            "examples": ["label", {"name": "numeric", "abs": 0.01, "rel": "1%"}],
        }
    ),
]
Slice = Annotated[
    SliceSource,
    PlainValidator(slice_source),
    WithJsonSchema({"type": "string", "examples": ["header:x-tenant", "json:$.parameters.region"]}),
]
_PATH_SCHEMA = {"type": "string", "examples": ["$.inputs[*].name", "$..email"]}
PayloadPath = Annotated[FieldPath, PlainValidator(payload_path), WithJsonSchema(_PATH_SCHEMA)]
PayloadPaths = Annotated[
    list[PayloadPath],
    BeforeValidator(payload_paths),
    WithJsonSchema({"anyOf": [{"const": False}, {"type": "array", "maxItems": 64, "items": _PATH_SCHEMA}]}),
]
