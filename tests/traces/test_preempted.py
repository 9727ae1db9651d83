"""What preemptions cost, out of an engine's steps."""

from __future__ import annotations

from dataclasses import replace

from rejoule.traces.preempted import as_json, fullest_note, preempted, preemption_notes, tokens_again
from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Run, Step

PROMPT = 100


def call(name: str, preemptions: int | None = None) -> CallResult:
    return CallResult(name, name, name, 0.0, 0.0, 9.0, prompt_tokens=PROMPT, output_tokens=20, preemptions=preemptions)


def step(*prefill: tuple[str, int, int], decode: tuple[tuple[str, int], ...] = (), gone: tuple[str, ...] = ()) -> Step:
    return Step(0.0, 1.0, 1, None, prefill=prefill, decode=decode, preempted=gone)


def run(*calls: CallResult, steps: tuple[Step, ...] | None = None) -> Run:
    certificate = Certificate("tokens", "", 0)
    return Run("r", "t", "", Configuration(), 0, 9.0, calls, (), (), Energy(), PowerCap(), certificate, steps)


THROWN_OUT = (
    step(("a", 96, 4)),
    step(("b", 60, 0), decode=(("a", 1),)),
    step(decode=(("a", 8),), gone=("b",)),
    # Of b's 60 tokens the cache still has 16.
    step(("b", 84, 16), gone=("a",)),
    # Of the 109 tokens that a had, nothing is left; the 110th is new.
    step(("a", 80, 0), decode=(("b", 1),)),
    step(("a", 30, 0), decode=(("b", 1),)),
)


def test_what_was_there_before_is_computed_again_and_what_was_not_is_new() -> None:
    """Neither what the cache kept, nor what was never reached, nor the token with which a call goes on."""
    again = list(tokens_again(THROWN_OUT, {"a": PROMPT, "b": PROMPT}))
    assert again == [(0.0,), (0.0,), (), (44.0,), (80.0,), (29.0,)]


def test_a_run_says_how_often_and_how_much() -> None:
    found = preempted(run(call("a"), call("b"), call("c"), steps=THROWN_OUT))
    assert found is not None
    assert (found.preemptions, found.calls, found.of_calls) == (2, 2, 3)
    assert (found.again_tokens, found.prefill_tokens) == (153.0, 350.0)
    assert found.again_share == 153.0 / 350.0


def test_a_call_that_failed_while_it_was_out_was_preempted() -> None:
    """It never went on, as one that is put out with its whole answer does not; but it had none."""
    steps = (step(("a", 100, 0)), step(decode=(("a", 3),)), step(gone=("a",)))
    for error, times in (("timed out", 1), (None, 0)):
        found = preempted(run(replace(call("a"), error=error), steps=steps))
        assert found is not None and (found.preemptions, found.calls) == (times, times)


def test_what_nobody_tells_is_not_taken_for_nothing() -> None:
    """Without steps only an engine that counts preemptions is known not to have had any."""
    assert preempted(run(call("a"))) is None and as_json(run(call("a"))) is None
    told = preempted(run(call("a", 0), call("b", 2)))
    assert told is not None and (told.preemptions, told.calls, told.again_tokens) == (2, 1, None)
    assert told.again_share is None


def test_a_full_cache_is_named_with_what_ends_it() -> None:
    """Over all trials, with tokens where the steps tell them; a run without preemptions has no note."""
    full = run(call("a"), call("b"), call("c"), steps=THROWN_OUT)
    (note,) = preemption_notes([full, replace(full, id="again")])
    assert "4 of 6 calls preempted 4 times" in note and "306 tokens computed again (44 % of all prefill)" in note
    assert "num_gpu_blocks" in note and "max_num_seqs" in note
    (note,) = preemption_notes([run(call("a", 1))])
    assert "1 of 1 call preempted 1 time;" in note
    assert list(preemption_notes([run(call("a", 0)), run(call("a"))])) == []


def test_many_configurations_with_a_full_cache_are_one_note() -> None:
    """Of the one with the most calls preempted, and how many others; a share below what is asked for is not noted."""
    bad, less, none = run(call("a", 3), call("b", 1)), run(call("a", 1), call("b", 0)), run(call("a", 0))
    (note,) = fullest_note([("less", [less]), ("bad", [bad]), ("none", [none]), ("less", [less])])
    assert note.startswith("bad: the KV cache was full: 2 of 2 calls preempted 4 times")
    assert note.endswith("; it was full, too, in 2 other configurations of 4")
    assert list(fullest_note([("none", [none])])) == []
    assert list(preemption_notes([less], 0.6)) == [] and len(list(preemption_notes([less], 0.5))) == 1


def test_trials_without_preemptions_count_among_the_calls() -> None:
    """One of three trials preempted a call: that is one of all calls, and of all that was prefilled."""
    full = run(call("a"), call("b"), call("c"), steps=THROWN_OUT)
    roomy = run(call("a"), call("b"), call("c"), steps=(step(("a", 350, 0)),))
    (note,) = preemption_notes([full, roomy, roomy])
    assert "2 of 9 calls preempted 2 times" in note and "153 tokens computed again (15 % of all prefill)" in note
