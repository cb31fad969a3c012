"""
Fine-tuning in torch: a start for another loss
==============================================

DeepTDRegressor minimises squared errors. Where another loss is asked for, to_torch
hands the network over, and Adam goes on with that loss. Here it is the logistic one, so
that the data can be labels; a fit of just that is DeepTDClassifier. For the first fit
the classes are -2 and 2: where p is the probability of the second one, their mean is 4
p - 2, which is close to the logit of p around 1/2.

A random start of the same network, as torch draws it, goes through the same training,
on five splits. On labels that a network with kernels of 10, 10 and 10 weights has
drawn, some stay at the loss of a coin toss, log 2. On odd and even digits all learn,
but with 300 images they do not come as far.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.export import to_torch

N_SPLITS, N_EPOCHS, BATCH = 5, 30, 32
LEARNING_RATE = 0.01  # of 0.001, 0.003, 0.01 and 0.03 the best for the random starts
log_loss = torch.nn.functional.binary_cross_entropy_with_logits


def train(network, X, y, X_test, y_test):
    """Held-out loss before each epoch and after the last, and the final accuracy."""
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    losses = []
    for epoch in range(N_EPOCHS + 1):
        with torch.no_grad():
            logit = network(X_test)
            losses.append(log_loss(logit, y_test).item())
        if epoch < N_EPOCHS:
            for rows in torch.randperm(len(X)).split(BATCH):
                optimizer.zero_grad()
                log_loss(network(X[rows]), y[rows]).backward()
                optimizer.step()
    return losses, ((logit > 0) == (y_test > 0)).double().mean().item()


def random_start(model, seed):
    network = to_torch(model)
    torch.manual_seed(seed)
    for module in network:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return network


def compare(name, model, X, y, n_train):
    """Held-out losses by epoch of both starts, a row for each split."""
    curves, accuracies = ({"DeepTD": [], "random": []} for _ in range(2))
    for seed in range(N_SPLITS):
        data = train_test_split(X, y, train_size=n_train, random_state=seed)
        X_train, X_test, y_train, y_test = data
        model.fit(X_train, 4 * y_train - 2)
        tensors = [torch.from_numpy(a) for a in (X_train, y_train, X_test, y_test)]
        starts = {"DeepTD": to_torch(model), "random": random_start(model, seed)}
        for start, network in starts.items():
            losses, accuracy = train(network, *tensors)
            curves[start].append(losses)
            accuracies[start].append(accuracy)
    print(f"{name}: {n_train} labels, {N_SPLITS} splits")
    for start in curves:
        last, accuracy = np.array(curves[start])[:, -1], np.array(accuracies[start])
        print(
            f"  {start:6} held-out log loss {last.mean():.2f} +- {last.std():.2f}, "
            f"accuracy {accuracy.mean():.2f} +- {accuracy.std():.2f}"
        )
    return curves


# %%
# Labels drawn with the probabilities of a planted network, and the loss of these.

X, logit = make_patch_cnn_regression(4600, (10, 10, 10), random_state=0)
logit = 4 * (logit - np.median(logit))
y = np.random.RandomState(0).binomial(1, expit(logit)).astype(float)
floor = log_loss(torch.from_numpy(logit), torch.from_numpy(y)).item()
planted = compare(
    "Planted network", DeepTDRegressor((10, 10, 10), random_state=0), X, y, 600
)
print(f"  the planted network itself: {floor:.2f}")

# %%
# Real images: eight filters of 2 x 2 and 4 x 4 weights.

X, digit = load_digits(return_X_y=True)
filters = DeepTDRegressor(
    kernel_sizes=((2, 2), (4, 4)),
    input_shape=(8, 8),
    n_filters=8,
    output_activation="relu",
    alpha=1.0,
    n_init=4,
    tol=1e-4,
    random_state=0,
)
digits = compare("Even digits", filters, X / 16, (digit % 2 == 0).astype(float), 300)

# %%
# Held-out loss after each epoch, a line for each split. From the DeepTD start it soon
# falls no further: ten epochs would have been enough.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for ax, curves in zip(axes, (planted, digits), strict=True):
    for start, color in (("random", "0.6"), ("DeepTD", "C0")):
        lines = ax.plot(np.transpose(curves[start]), color=color, lw=1.6)
        lines[0].set_label(f"{start} start")
    ax.axhline(np.log(2), color="0.4", ls=":", label="coin toss")
    ax.set(xlabel="epochs of Adam on the logistic loss", ylim=(0, 0.85))
axes[0].axhline(floor, color="C1", ls="--", lw=1, label="planted network")
axes[0].set(ylabel="log loss on held-out samples", title="Planted, 600 labels")
axes[1].set(title="Even or odd digits, 300 labels")
axes[0].legend(loc="lower left")
plt.show()
