"""The files that pages load: our own, out of the package, under addresses that change with their content."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_FOLDER = Path(__file__).parent / "assets"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    media_type: str
    #: the beginning of its hash
    mark: str


@cache
def all_assets() -> dict[str, Asset]:
    """Name → file. Read once."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if (media_type := _TYPES.get(path.suffix)) is not None:
            content = path.read_bytes()
            found[path.name] = Asset(content, media_type, hashlib.sha256(content).hexdigest()[:12])
    return found


def address(name: str) -> str:
    """Where a page finds the file: another address for another content, so that browsers may keep it for ever."""
    return f"/assets/{name}?{all_assets()[name].mark}"


async def serve(request: Request) -> Response:
    asset = all_assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("there is no such file", 404)
    kept = request.url.query == asset.mark
    caching = "public, max-age=31536000, immutable" if kept else "no-cache"
    return Response(asset.content, media_type=asset.media_type, headers={"cache-control": caching})
