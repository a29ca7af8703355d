"""From the many spellings of a model's name to what it is: vendor's prefix, region, family and version."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

_CONTEXT = re.compile(r"\[[^\]]*\]$")
_BEDROCK = re.compile(r"(?:(?P<region>[a-z]{2,6}(?:-[a-z]+)*)\.)?anthropic\.(?P<name>claude[^/]*)")
_BEDROCK_END = re.compile(r"-v\d+(?::\d+)*(?::\d+k)?$")
_VERTEX = re.compile(r"(?:projects/[^/]+/locations/(?P<region>[^/]+)/)?publishers/anthropic/models/(?P<name>[^/]+)")
_DATE = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|latest|default)$")
_FAMILY = re.compile(r"claude-(?P<family>[a-z]+)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?:-v\d)?")
_FAMILY_LAST = re.compile(r"claude-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?-(?P<family>[a-z]+)(?:-v\d)?")
_OLD = re.compile(r"claude-v?(?P<major>[12])(?:\.\d)?")

#: Characters of the longest name that is read; patterns take their time over long ones, and no model is called that.
LONGEST = 300


class Host(StrEnum):
    """Who runs the model."""

    DIRECT = "direct"
    BEDROCK = "bedrock"
    VERTEX = "vertex"


@dataclass(frozen=True)
class Name:
    """One model's name. `given` is lower case and without a suffix like [1m], which changes no price by itself."""

    given: str
    #: without the prefixes and suffixes of a host; may still carry a date
    plain: str
    host: Host
    #: as the name says it; '' none, `global` everywhere
    region: str

    @cached_property
    def undated(self) -> str:
        return _DATE.sub("", self.plain)

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """What a line of the config may call it, the closest first."""
        return tuple(dict.fromkeys((self.given, self.plain, self.undated)))

    @cached_property
    def version(self) -> tuple[str, int, int] | None:
        """Family and version of a Claude model; None: not one, or not to be told."""
        return version(self.plain)

    @property
    def is_claude(self) -> bool:
        return "claude" in self.given

    @property
    def is_regional(self) -> bool:
        return bool(self.region) and self.region != "global"


def parse(model: str) -> Name | None:
    """None: no model at all, such as the client's own `<synthetic>`."""
    if len(model) > LONGEST:
        return None
    given = _CONTEXT.sub("", model.strip().lower())
    if not given or given.startswith("<"):
        return None
    if given.startswith("arn:"):
        # The resource alone tells the model; that of an application's own profile is only a random id.
        given = given.rpartition("/")[2]
    if found := _VERTEX.search(given):
        return Name(found["name"], found["name"].removesuffix("@default"), Host.VERTEX, found["region"] or "")
    if found := _BEDROCK.search(given):
        name = _BEDROCK_END.sub("", found["name"])
        return Name(given[found.start() :], name, Host.BEDROCK, found["region"] or "local")
    if "claude" in given and "@" in given:
        plain = given.rpartition("/")[2]
        return Name(plain, plain.removesuffix("@default"), Host.VERTEX, "")
    return Name(given, given.removeprefix("openrouter/").removeprefix("anthropic/"), Host.DIRECT, "")


def version(name: str) -> tuple[str, int, int] | None:
    """`claude-opus-4-5-20251101` → ("opus", 4, 5); a minor of 0 is as good as none.

    None where anything is left over: `claude-opus-4-5-turbo` may cost something else than `claude-opus-4-5`.
    """
    undated = _DATE.sub("", name)
    for pattern in (_FAMILY, _FAMILY_LAST):
        if found := pattern.fullmatch(undated):
            return found["family"], int(found["major"]), int(found["minor"] or 0)
    if found := _OLD.fullmatch(undated):
        return "", int(found["major"]), 0
    return None
