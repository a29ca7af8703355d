"""What a `result` line says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.agent.values import BIGGEST, amount, count, mapping, sequence, text, words

#: How errors begin that are for the client's makers only.
_DIAGNOSTIC = "[ede_diagnostic]"


@dataclass(frozen=True, slots=True)
class AgentResult:
    """The last result line of one process; turns, tokens and dollars are those of that process alone.

    (The client counts a resumed session from its beginning; what earlier processes used is not in here.)
    """

    is_error: bool
    subtype: str
    #: None: the client is too old to say, or no turn ran
    terminal_reason: str | None
    #: the agent's last words, or the errors
    text: str
    session: str | None
    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float
    #: HTTP status of the API's last refusal
    api_status: int | None = None
    #: the client's word for what went wrong with the API, as far as it has one
    api_error: str | None = None
    #: the client's own command that the prompt was taken for, without the slash
    local_command: str | None = None


class Totals:
    """Adds up what the result lines of one process report."""

    def __init__(self) -> None:
        self._turns = 0
        self._parts: list[Mapping[str, object]] = []

    def take(self, line: Mapping[str, object]) -> AgentResult:
        """The result so far, with `line` as its last line."""
        self._turns += count(line.get("num_turns"))
        whole = _models(line.get("modelUsage"))
        cost = amount(line.get("total_cost_usd"))
        part = line.get("model_usage_since_last_result")
        models = whole
        if isinstance(part, dict):
            self._parts += _models(part)
            models = self._parts
            cost = sum(amount(model.get("costUSD")) for model in models)
        return AgentResult(
            is_error=bool(line.get("is_error")),
            subtype=text(line.get("subtype")),
            terminal_reason=text(line.get("terminal_reason")) or None,
            text=_words(line),
            session=text(line.get("session_id")) or None,
            turns=self._turns,
            input_tokens=_sum(models, "inputTokens"),
            output_tokens=_sum(models, "outputTokens"),
            cache_read_tokens=_sum(models, "cacheReadInputTokens"),
            cache_write_tokens=_sum(models, "cacheCreationInputTokens"),
            cost_usd=cost,
            api_status=count(line.get("api_error_status")) or None,
            api_error=text(line.get("api_error")) or None,
            local_command=text(line.get("local_command")) or None,
        )


def _models(usage: object) -> list[Mapping[str, object]]:
    return [mapping(model) for model in mapping(usage).values()]


def _sum(models: Iterable[Mapping[str, object]], name: str) -> int:
    return min(sum(count(model.get(name)) for model in models), BIGGEST)


def _words(line: Mapping[str, object]) -> str:
    errors = (text(error).strip() for error in sequence(line.get("errors")))
    return words(line.get("result")) or "; ".join(
        error for error in errors if error and not error.startswith(_DIAGNOSTIC)
    )
