"""Draw how often simulated networks are found, from docs/tables/recovery.md."""

import runpy

import matplotlib.pyplot as plt

read_table = runpy.run_path("../benchmarks/tables.py")["read_table"]
header, *rows = read_table("recovery")
shapes = ["(10, 10, 10)", "(20, 20)", "(5, 5, 5, 5)"]
methods = ["DeepTD", "10 random", "Adam 5", "CP regression"]
figure, axes = plt.subplots(3, 2, sharey=True, figsize=(5.5, 6.5), layout="constrained")
for row_of_axes, shape in zip(axes, shapes):
    for ax, output in zip(row_of_axes, ["identity", "relu"]):
        panel = [row for row in rows if (row[0], row[2]) == (shape, output)]
        for method, marker in zip(methods, "osD^"):
            cells = [(row[3], row[header.index(method)]) for row in panel]
            points = [(float(x), float(y)) for x, y in cells if y]
            if points:
                ax.plot(*zip(*points), marker=marker, label=method)
        ticks = [float(row[3]) for row in panel]
        ax.set(title=f"{shape}, last layer {output}", ylim=(-0.05, 1.05), xscale="log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.title.set_fontsize("small")
figure.supxlabel("samples per free weight (n/dof)", fontsize="medium")
figure.supylabel("share recovered", fontsize="medium")
figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4
)
