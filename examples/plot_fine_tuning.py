"""
Fine-tuning in torch: train with another loss
=============================================

to_torch converts a fitted network to a torch module. Adam can then train the module
further with any loss. This example uses the logistic loss, which DeepTDClassifier
minimizes without torch. In the first fit the classes are -2 and 2. If p is the
probability of the second class, their mean is 4 p - 2. Near p = 1/2 this mean is close
to the logit of p.

The example compares this warm start with random initial weights of the same network, on
five splits. With classes from a network with kernels of 10, 10 and 10 weights, some
random starts stay at the loss of a coin toss, log 2. On odd and even digits all random
starts learn, but with 300 images their loss stays higher.
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
LEARNING_RATE = 0.01  # the best of 0.001, 0.003, 0.01, 0.03 for the random starts
log_loss = torch.nn.functional.binary_cross_entropy_with_logits


def train(network, X, y, X_test, y_test):
    """Return the held-out loss before and after each epoch, and the final accuracy."""
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
    """Return the held-out losses by epoch for both starts, a row for each split."""
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
# Classes drawn with the probabilities of a random network, and the loss of the latter.

X, logit = make_patch_cnn_regression(4600, (10, 10, 10), random_state=0)
logit = 4 * (logit - np.median(logit))
y = np.random.RandomState(0).binomial(1, expit(logit)).astype(float)
floor = log_loss(torch.from_numpy(logit), torch.from_numpy(y)).item()
simulated = compare(
    "Simulated network", DeepTDRegressor((10, 10, 10), random_state=0), X, y, 600
)
print(f"  the true network: {floor:.2f}")

# %%
# Real images: eight filters with kernels of 2 x 2 and 4 x 4 weights.

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
# The held-out loss after each epoch, a line for each split. From the DeepTD start ten
# epochs are enough.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for ax, curves in zip(axes, (simulated, digits), strict=True):
    for start, color in (("random", "0.6"), ("DeepTD", "C0")):
        lines = ax.plot(np.transpose(curves[start]), color=color, lw=1.6)
        lines[0].set_label(f"{start} start")
    ax.axhline(np.log(2), color="0.4", ls=":", label="coin toss")
    ax.set(xlabel="epochs of Adam on the logistic loss", ylim=(0, 0.85))
axes[0].axhline(floor, color="C1", ls="--", lw=1, label="true network")
axes[0].set(ylabel="log loss on held-out samples", title="Simulated, 600 labels")
axes[1].set(title="Even or odd digits, 300 labels")
axes[0].legend(loc="lower left")
plt.show()
