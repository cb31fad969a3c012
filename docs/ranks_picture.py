"""Draw mean ranks of the methods on real data, from the tables of benchmarks.md."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

page = Path("benchmarks.md").read_text()
TABLE = r"\| test R2, 150 rows \|(.*?)\n(?:.*\n)+?\| mean rank \|(.*)"
tables = re.findall(TABLE, page)

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
names = [name.strip() for name in tables[0][0].strip(" |").split("|")]
groups = [[float(rank) for rank in ranks.strip(" |").split("|")] for _, ranks in tables]
labels = ["31 sets of development", "17 fresh sets"]
order = sorted(range(len(names)), key=lambda i: -sum(ranks[i] for ranks in groups))
for y, i in enumerate(order):
    color = "C0" if names[i] == "DeepTD" else "0.4"
    of_method = [ranks[i] for ranks in groups]
    ax.plot([min(of_method), max(of_method)], [y, y], color="0.85", zorder=0)
    for rank, label, marker, fill in zip(of_method, labels, "oD", (color, "w")):
        ax.plot(rank, y, marker, mfc=fill, color=color, label=label)
ax.set_yticks(range(len(names)), [names[i] for i in order])
ax.set(xlabel="mean rank by test R2 among fourteen methods, 150 rows", xlim=(1, 14))
ax.legend(*(part[-2:] for part in ax.get_legend_handles_labels()), frameon=False)
