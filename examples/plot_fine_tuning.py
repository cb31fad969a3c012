"""
Fine-tuning in torch: a start for another loss
==============================================

DeepTDRegressor minimises squared errors. Labels of two classes ask for the logistic
loss, which it does not have: to_torch hands the network over, and Adam goes on with
that loss. For the first fit the classes are -2 and 2: where p is the probability of
the second one, their mean is 4 p - 2, which is close to the logit of p around 1/2.

Random starts of the same network, as torch draws them, go through the same training.
On labels that a network with kernels of 10, 10 and 10 weights has drawn, few arrive
where the DeepTD start does, and later; the others stay at the loss of a coin toss,
log 2. On odd and even digits none is lost, but with 300 images none comes as far.
"""

import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.export import to_torch

N_STARTS, N_EPOCHS, BATCH = 5, 50, 32
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
    """Held-out losses of the DeepTD start, and of the random ones."""
    data = train_test_split(X, y, train_size=n_train, random_state=0)
    X_train, X_test, y_train, y_test = data
    begin = time.perf_counter()
    model.fit(X_train, 4 * y_train - 2)
    print(f"{name}: {n_train} labels, fit in {time.perf_counter() - begin:.1f} s")
    tensors = [torch.from_numpy(a) for a in (X_train, y_train, X_test, y_test)]
    torch.manual_seed(0)
    starts = {"DeepTD": to_torch(model)}
    starts |= {f"random {s + 1}": random_start(model, s) for s in range(N_STARTS)}
    curves = {}
    for start, network in starts.items():
        curves[start], accuracy = train(network, *tensors)
        first, last, best = curves[start][0], curves[start][-1], min(curves[start])
        print(
            f"  {start:9} held-out log loss {first:.3f} -> {last:.3f} (lowest "
            f"{best:.3f}), accuracy {accuracy:.3f}"
        )
    return curves


# %%
# Labels drawn with the probabilities of a planted network, and the loss of these.

X, logit, _ = make_patch_cnn_regression(4600, (10, 10, 10), random_state=0)
logit = 4 * (logit - np.median(logit))
y = np.random.RandomState(0).binomial(1, expit(logit)).astype(float)
floor = log_loss(torch.from_numpy(logit), torch.from_numpy(y)).item()
planted = compare(
    "Planted network", DeepTDRegressor((10, 10, 10), random_state=0), X, y, 600
)
print(f"  the planted network itself: {floor:.3f}")

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
# Held-out loss after each epoch. From the DeepTD start it soon falls no further, and on
# the digits it rises a little in the end: ten epochs would have been enough.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
for ax, curves in zip(axes, (planted, digits), strict=True):
    for start, losses in curves.items():
        from_data = start == "DeepTD"
        ax.plot(
            losses,
            color="C0" if from_data else "0.7",
            lw=2.2 if from_data else 1,
            zorder=3 if from_data else 2,
            label={"DeepTD": "DeepTD start", "random 1": "random starts"}.get(start),
        )
    ax.axhline(np.log(2), color="0.4", ls=":", label="coin toss")
    ax.set(xlabel="epochs of Adam on the logistic loss", ylim=(0, 0.85))
axes[0].axhline(floor, color="C1", ls="--", lw=1, label="planted network")
axes[0].set(ylabel="log loss on held-out samples", title="Planted, 600 labels")
axes[1].set(title="Even or odd digits, 300 labels")
axes[0].legend(loc="lower left")
figure.savefig("fine_tuning.png", dpi=150)
