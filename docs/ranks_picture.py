"""Mean ranks of the methods on real data, read from the tables of benchmarks.md."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

page = Path("benchmarks.md").read_text()
TABLE = r"\| test R2, 150 rows \|(.*?)\n(?:.*\n)+?\| mean rank \|(.*)"
tables = re.findall(TABLE, page)

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
names = [name.strip() for name in tables[0][0].strip(" |").split("|")]
developed, held_back = (
    [float(rank) for rank in ranks.strip(" |").split("|")] for _, ranks in tables
)
order = sorted(range(len(names)), key=lambda i: -developed[i] - held_back[i])
for y, i in enumerate(order):
    color = "C0" if names[i] == "DeepTD" else "0.4"
    ax.plot([developed[i], held_back[i]], [y, y], color="0.85", zorder=0)
    ax.plot(developed[i], y, "o", color=color, label="16 sets of development")
    ax.plot(held_back[i], y, "D", mfc="w", color=color, label="9 sets held back")
ax.set_yticks(range(len(names)), [names[i] for i in order])
ax.set(xlabel="mean rank by test R2 among twelve methods, 150 rows", xlim=(1, 12))
ax.legend(*(part[-2:] for part in ax.get_legend_handles_labels()), frameon=False)
