"""Draw mean ranks of the methods on real data, from the tables in docs/tables."""

import runpy

import matplotlib.pyplot as plt

read_table = runpy.run_path("../benchmarks/tables.py")["read_table"]
groups = {
    "31 sets of development": read_table("development_ranks")[1:],
    "17 fresh sets": read_table("fresh_ranks")[1:],
}
ranks = [{row[0]: float(row[1]) for row in rows} for rows in groups.values()]
names = sorted(ranks[0], key=lambda name: -sum(group[name] for group in ranks))

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for y, name in enumerate(names):
    color = "C0" if name == "DeepTD" else "0.4"
    of_method = [group[name] for group in ranks]
    ax.plot([min(of_method), max(of_method)], [y, y], color="0.85", zorder=0)
    for rank, label, marker, fill in zip(of_method, groups, "oD", (color, "w")):
        ax.plot(rank, y, marker, mfc=fill, color=color, label=label)
ax.set_yticks(range(len(names)), names)
ax.set(xlabel="mean rank by test R2 among fourteen methods, 150 samples", xlim=(1, 14))
ax.legend(*(part[-2:] for part in ax.get_legend_handles_labels()), frameon=False)
