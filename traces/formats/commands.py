"""``rejoule import``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from rejoule.traces.terminal import say
from rejoule.traces.words import counted


@click.group(name="import")
def import_() -> None:
    """Make a trace of another tool's."""


@import_.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Trace to write.")
@click.option("--limit", type=click.IntRange(1), help="Take the first requests, so many.")
@click.option("--max-model-len", type=click.IntRange(2), help="Leave out requests of more tokens.")
@click.option("--block-tokens", type=click.IntRange(1), default=512, show_default=True, help="Tokens of a hash id.")
@click.option("--json", "as_json", is_flag=True, help="Print what was taken as one JSON object.")
def mooncake(
    file: Path, output: Path, limit: int | None, max_model_len: int | None, block_tokens: int, as_json: bool
) -> None:
    """Make a trace of a Mooncake request trace: FILE has one JSON object a line; a session_id makes a workflow.

    \b
    rejoule import mooncake conversation_trace.jsonl -o conversation.jsonl.zst --limit 1000 --max-model-len 16384
    """
    import orjson

    from rejoule.traces.errors import RejouleError
    from rejoule.traces.formats.mooncake import header, workflows
    from rejoule.traces.store import TraceWriter

    if output.exists() and file.exists() and output.samefile(file):
        raise RejouleError(f"{file} would be overwritten by its own import", "give another file with -o")
    calls = prompt = answers = 0
    left_out: Counter[str] = Counter()
    # Written aside: half a trace would look like a recording that was cut, and what lies there stays until it is whole.
    aside = output.with_name(f".{output.name}")
    try:
        with TraceWriter(aside, header(file, block_tokens)) as writer:
            taken = workflows(file, limit=limit, longest=max_model_len, block_tokens=block_tokens, left_out=left_out)
            for workflow in taken:
                writer.close(workflow)
                calls += len(workflow.calls)
                prompt += sum(call.prompt_tokens or 0 for call in workflow.calls)
                answers += sum(call.output_tokens or 0 for call in workflow.calls)
        aside.replace(output)
    except RejouleError:
        aside.unlink(missing_ok=True)
        raise
    if as_json:
        found = {"calls": calls, "prompt_tokens": prompt, "output_tokens": answers}
        click.echo(orjson.dumps(found | ({"left_out": dict(left_out)} if left_out else {})).decode())
    else:
        click.echo(f"{output}: {counted(calls, 'call')}, {prompt:,} prompt and {answers:,} output tokens")
        if left_out:
            said = "; ".join(f"{what}: {count:,}" for what, count in left_out.items())
            say(f"warning: not in the trace as the file has it: {said}", err=True)
