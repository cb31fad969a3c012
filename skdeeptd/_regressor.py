"""DeepTDRegressor: a patch network that predicts numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from numpy.typing import ArrayLike

from skdeeptd._base import BasePatchRegressor
from skdeeptd._compat import fit_context
from skdeeptd._typing import KernelSizes, RandomState, Strides
from skdeeptd._validation import reset_on_fit


class DeepTDRegressor(BasePatchRegressor):
    """Convolutional network whose kernels are learned by tensor decomposition (DeepTD).

    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.metrics import kernel_similarity
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 4, 4), random_state=0, return_kernels=True
    ... )
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
    >>> model.fit(X[:100], y[:100]).score(X[100:], y[100:]) > 1 - 1e-6
    True
    >>> kernel_similarity(model.kernels_, kernels).round(6)
    array([1., 1., 1.])

    A filter has one kernel per layer. Each kernel slides over the output of the layer
    below, by default without overlap, until one number per filter is left::

        y = intercept + sum over filters of scale * phi_D(k_D * ... phi_1(k_1 * x))

    A rank-1 decomposition of the cross-moment of X and y estimates all kernels, and
    Gauss-Newton iterations remove the bias of this estimate [1]_, [2]_.

    Parameters
    ----------
    kernel_sizes : sequence of int or of tuple of int, default=None
        Kernel size of each layer, first layer first: ``(4, 6)`` for 24 features,
        ``((4, 4), (2, 2))`` for ``input_shape=(8, 8)``; -1 at the end takes all values
        left. Sizes that multiply to more than an axis see zeros beyond its end. None
        takes two layers that split each axis evenly.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has flat rows (C order); None for the shape of X itself.
    covariates : sequence of int or str, default=None
        Columns of X beside the signal, such as a temperature or a one-hot category.
        They enter linearly, without a penalty.
    strides : int, sequence of int or of tuple of int, default=None
        Step of the kernels of the hidden layers, from 1 to the kernel size: one for
        all, or one per layer. None means the kernel sizes, without overlap.
    n_filters : int, default=1
        Number of filters, whose outputs are added. Filters do not share weights.
    activation : {"relu", "leaky_relu", "identity", "tanh", "softplus", "logistic"} \
or sequence of them, default="relu"
        Activation of all hidden layers, or one for each. Below zero leaky_relu has
        slope 0.01.
    output_activation : str, default="identity"
        Activation of the last layer.
    fit_intercept : bool, default=True
        Whether to learn the intercept; if False, it is zero.
    hidden_bias : bool, default=False
        Whether each filter has a bias in each hidden layer.
    share_filters : bool, default=False
        Whether all outputs of y share the hidden layers, with a last layer each. If
        ``output_activation`` is not "identity", they share all kernels.
    loss : {"squared_error", "huber", "poisson"}, default="squared_error"
        "huber" limits the influence of outliers in y; "poisson" is for counts, with a
        log link. Both exclude ``alpha="loo"``, and "huber" excludes ``share_filters``
        with several outputs.
    epsilon : float, default=1.35
        Residual, in scales (``scale_``), from which Huber's loss is linear: 1 to 1e6.
    alpha : float or "loo", default=0.0
        Ridge penalty; see Notes. "loo" chooses the penalty of the last layer by
        leave-one-out and needs ``output_activation="identity"``.
    polish : bool, default=True
        Whether to run Gauss-Newton iterations. Without them kernels keep a bias.
    max_iter : int, default=500
        Largest number of passes over the rows.
    tol : float, default=1e-6
        Smallest relative decrease of the loss for which iterations continue.
    n_init : int or "auto", default="auto"
        Largest number of starts; the search stops early if one start fits exactly or
        several agree. "auto" is 20 to 1000, more for fewer samples per weight.
    n_jobs : int, default=None
        Number of threads, as in joblib; results do not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of random starts and subsamples.
    verbose : int, default=0
        Whether to print the progress.

    Attributes
    ----------
    kernels_ : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        Kernels of each layer, of unit norm or zero.
    gains_ : ndarray of shape (n_outputs, n_filters, n_layers)
        Factor of each kernel inside its activation; 1 for relu, leaky_relu, identity.
    scales_ : ndarray of shape (n_outputs, n_filters)
        Factor of the output of each filter.
    biases_ : ndarray of shape (n_outputs, n_filters, n_layers - 1)
        Biases of the hidden layers, of which there are none without ``hidden_bias``.
    intercept_ : ndarray of shape (n_outputs,)
        Intercept of each output.
    covariate_coef_ : ndarray of shape (n_outputs, n_covariates)
        Coefficients of the covariates.
    covariate_indices_ : ndarray of shape (n_covariates,)
        Columns of X that are covariates.
    moment_ : ndarray of shape (n_outputs,) + input_shape
        Centred cross-moment of X and y; see Notes.
    scale_ : ndarray of shape (n_outputs,)
        Scale of the residuals, in units of y; only with ``loss="huber"``.
    alpha_ : ndarray of shape (n_outputs,)
        Penalty chosen by leave-one-out; only with ``alpha="loo"``.
    link_ : {"identity", "log"}
        Function of the mean of y that the network outputs.
    covariance_ : ndarray of shape (n_outputs, n_weights, n_weights)
        Covariance of the weights: for each filter its kernels times their gains, its
        scale and its biases; then covariates and intercept. Only with ``polish`` and at
        most 13 000 weights; NaN if there are no more samples than weights.
    noise_variance_ : ndarray of shape (n_outputs,)
        Variance of y around the network; only with ``polish``, not for "poisson".
    loo_r2_ : ndarray of shape (n_outputs,)
        R2 to expect of new samples; see Notes. Only with ``covariance_``, not for
        "huber".
    conformity_scores_, conformity_weight_ : ndarray
        Leave-one-out residuals of at most 1000 samples over the standard deviations of
        y, and weights, for ``predict_interval``.
    kernel_sizes_, strides_, input_shape_, activations_ : tuple
        The architecture.
    n_iter_ : int
        Passes over all rows at the end.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    DeepTDRegressorCV : Finds the best network of a grid.
    skdeeptd.inspection.compare_with_linear : Checks whether a linear model is enough.
    skdeeptd.datasets.make_patch_cnn_regression : Draws data from a random network.

    Notes
    -----
    The penalty is ``alpha`` times the squared norm of the weights that each filter
    would give the features if all activations were the identity.

    For "huber" the scale is Huber's proposal 2 [3]_, and y is clipped at two scales
    from its median in ``moment_``; for "poisson" ``log(y / mean + 1/2)`` replaces y.
    With covariates y is their residual.

    ``loo_r2_`` divides each residual by one minus its leverage, and the squared error
    by ``(1 - h)^2``, with h the mean leverage, because the search fits noise too. It
    uses at most 1000 samples and is too low with fewer than two per weight.

    With at least 168 rows per weight (4000 in all) the search uses a subsample of 42
    rows per weight; larger ones and all rows follow. One linear layer is solved in
    closed form. X may be a :class:`numpy.memmap`.

    Kernels are identified up to the order of the filters and, if an activation is odd,
    up to their signs.

    References
    ----------
    .. [1] S. Oymak and M. Soltanolkotabi, "End-to-end Learning of a Convolutional
       Neural Network via Deep Tensor Decomposition", arXiv:1805.06523, 2018.
    .. [2] S. Oymak and M. Soltanolkotabi, "Learning a deep convolutional neural
       network via tensor decomposition", Information and Inference 10(3), 2021.
    .. [3] P. J. Huber, "Robust Statistics", Wiley, 1981, chapter 7.
    """

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        covariates: Sequence[int | str] | None = None,
        strides: Strides | None = None,
        n_filters: int = 1,
        activation: str | Sequence[str] = "relu",
        output_activation: str = "identity",
        fit_intercept: bool = True,
        hidden_bias: bool = False,
        share_filters: bool = False,
        loss: str = "squared_error",
        epsilon: float = 1.35,
        alpha: float | str = 0.0,
        polish: bool = True,
        max_iter: int = 500,
        tol: float = 1e-6,
        n_init: int | str = "auto",
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.kernel_sizes = kernel_sizes
        self.input_shape = input_shape
        self.covariates = covariates
        self.strides = strides
        self.n_filters = n_filters
        self.activation = activation
        self.output_activation = output_activation
        self.fit_intercept = fit_intercept
        self.hidden_bias = hidden_bias
        self.share_filters = share_filters
        self.loss = loss
        self.epsilon = epsilon
        self.alpha = alpha
        self.polish = polish
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the network to X and y.

        The steps are:

        1. Validate the data, and compute the patches of each layer.
        2. Compute the centred cross-moment of X and y in one pass.
        3. Decompose the moment of each output, with an axis per layer, into kernels.
        4. Choose the signs, scales and intercept of each start.
        5. Improve the best starts by Gauss-Newton iterations on the loss.
        6. Store the network with kernels of unit norm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            float32 is kept, everything else becomes float64.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight 2 counts as two rows, a row of weight 0 as none.

        Returns
        -------
        DeepTDRegressor
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid. The estimator is then not fitted.
        """
        return self._fit(X, y, sample_weight)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Update the network with a batch of samples.

        >>> from skdeeptd import DeepTDRegressor
        >>> from skdeeptd.datasets import make_patch_cnn_regression
        >>> X, y = make_patch_cnn_regression(
        ...     n_samples=1000, kernel_sizes=(4, 4, 4), random_state=0
        ... )
        >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
        >>> for begin in range(0, 800, 200):
        ...     part = slice(begin, begin + 200)
        ...     _ = model.partial_fit(X[part], y[part])
        >>> model.score(X[800:], y[800:]) > 1 - 1e-6
        True

        The moment is computed from all batches so far. Signs, scales and Gauss-Newton
        iterations use a random subsample of their rows: at most 100 rows per weight
        (1000 at least), drawn in proportion to ``sample_weight``. The iterations are
        warm-started from the present network; other starts are tried whenever the
        subsample has doubled. The kernels are as noisy as those of a fit to the
        subsample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        DeepTDRegressor
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid, or X has another shape than the batches
            before. The estimator is then unchanged.

        Notes
        -----
        ``fit`` discards the batches so far, and the first call after ``fit`` begins
        anew. ``n_iter_``, ``covariance_`` and ``noise_variance_`` are those of the
        subsample. With ``loss="huber"`` each call fits the subsample anew; with "huber"
        and "poisson" ``moment_`` is that of the subsample.
        """
        return self._partial_fit(X, y, sample_weight)
