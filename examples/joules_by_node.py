# %% [markdown]
# Which node of an agent spends the energy, and what does a larger batch change? Run me as a script, or cell by cell in
# a notebook: `pip install pandas plotly`, then `python examples/joules_by_node.py`.

# %%
from tempfile import mkdtemp

import plotly.express as px

import rejoule

folder = mkdtemp(prefix="joules-by-node-")

# %% Record: eight workflows of the multi-agent programmers, live, on the embedded engine.
# The code that they test is jailed where this machine has a jail; what the embedded engine makes up is harmless.
settings = {"engineers": 3, "sandbox": "if-possible"}
trace = rejoule.record("agentic", workflows=8, settings=settings, output=f"{folder}/agentic.jsonl")
print(f"{len(trace.workflows)} workflows, {sum(1 for _ in trace.calls)} calls of {', '.join(trace.nodes)}")

# %% Replay: the same calls at two batch sizes, in virtual time.
runs = rejoule.replay_traces(trace, f"{folder}/runs", sweep={"max_num_seqs": [1, 16]})
print(runs.to_pandas()[["max_num_seqs", "gpu_j", "gpu_source", "workflow_p50_s", "exact_calls"]])

# %% Joules by node, as a data frame: the parts of a configuration add up to its total.
joules = rejoule.energy(runs, by="node").to_pandas()
print(joules.pivot(index="part", columns="max_num_seqs", values="energy_j").round(0))

# %% The same as a picture. The joules are modelled: the column `source` says by which profile.
figure = px.bar(joules, x="energy_j", y="part", color=joules["max_num_seqs"].astype(str), barmode="group",
                labels={"energy_j": f"joules, {joules['source'].iloc[0]}", "part": "", "color": "batch"})  # fmt: skip
figure.write_html(f"{folder}/joules-by-node.html")

# %% What changed, and how sure is that?
for headline in rejoule.diff(runs, a={"max_num_seqs": 1}, b={"max_num_seqs": 16}).headlines:
    print(headline)
print(f"{rejoule.report(runs, f'{folder}/report.html')} and {folder}/joules-by-node.html are written")
