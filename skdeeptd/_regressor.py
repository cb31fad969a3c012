"""DeepTDRegressor: the network of the paper, and its fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from numpy.typing import ArrayLike

from skdeeptd._base import BasePatchRegressor
from skdeeptd._compat import fit_context
from skdeeptd._typing import KernelSizes, RandomState, Strides
from skdeeptd._validation import reset_on_fit


class DeepTDRegressor(BasePatchRegressor):
    """Convolutional network whose kernels are learned by DeepTD.

    Layer l has one kernel of d_l weights per filter, which slides over the output of
    the layer below until one number per filter is left at the end. By default patches
    do not overlap, as in the paper, and the kernel sizes multiply to the number of
    features; with ``strides`` they may::

        y = intercept + sum over filters of scale * phi_D(k_D * ... phi_1(k_1 * x))

    There is no gradient descent from a random start. One pass over the data gives the
    cross-moment of X and y; with an axis per layer it is close to the outer product
    of the kernels, so that its rank-1 decomposition (rank-R for R filters) gives all
    of them at once, up to their signs and scales. A short Gauss-Newton polish then
    makes them exact.

    Parameters
    ----------
    kernel_sizes : sequence of int or of tuple of int, default=None
        The kernel size of each layer, first layer first: ``(4, 6)`` for 24 features,
        ``((4, 4), (2, 2))`` for ``input_shape=(8, 8)``. On each axis of the input they
        multiply to its length, or to more: then the last patches see zeros beyond the
        end, and each weight must still meet a value somewhere. The last entry may be
        -1, for all that the layers before leave.

        A tuple that is shorter than ``input_shape`` has size 1 on the axes that it
        leaves out. An int holds for every axis that the layers before have not used up.

        None takes two layers and splits each axis as evenly as it divides, the larger
        part in the first layer: (6, 5) for 30 features. An axis with a prime length is
        split into its root, rounded up, and the rest: (10, 10) for 97. An axis that is
        less than a quarter of another, as that of channels often is, lies in the first
        kernel whole: ((10, 6), (6, 1)) for 60 steps of 6 channels. So does an axis of
        at most 3 beside a longer one. If no axis is longer than 2, the network has one
        layer, and ``fit`` warns that it is linear.
    input_shape : sequence of int, default=None
        The shape of a sample, channels last if there are any; X holds its entries in
        C order. None takes it from an X of more than two axes, and is one axis else.
    strides : int, sequence of int or of tuple of int, default=None
        How far each hidden layer's kernel moves from one patch to the next: an entry
        per hidden layer or one int for all, each from 1 to the kernel size, where
        patches do not overlap. A tuple has an entry per axis; an int holds for every
        axis on which there is more than one patch. None is the paper's network, the
        strides of which are the kernel sizes. With ``kernel_sizes=None`` the first
        kernel takes the root of each axis, rounded up, and the second all that is left.
        The last patch may reach beyond the end of an axis, where it sees zeros.
        What is known of the moment is proved for patches that do not overlap; where
        they do, it is where the search begins.
    n_filters : int, default=1
        Kernels per layer. Filters do not share weights; their outputs are added.
    activation : {"relu", "leaky_relu", "identity", "tanh", "softplus", "logistic"} \
or sequence of them, default="relu"
        For all hidden layers, or one for each, first layer first. The slope of
        leaky_relu below zero is 0.01.
    output_activation : {"relu", "leaky_relu", "identity", "tanh", "softplus", \
"logistic"}, default="identity"
        For the last layer.
    fit_intercept : bool, default=True
        Whether to learn the intercept. Without it, it is zero.
    hidden_bias : bool, default=False
        Whether the polish learns a bias for each filter of each hidden layer, added
        before the activation. The moment tells nothing of it.
    share_filters : bool, default=False
        Whether all outputs of a y of several columns have the hidden layers in common,
        each with a last layer of its own. The loss of each output then counts in units
        of that of its mean, so that the units of y do not matter. With another
        ``output_activation`` than "identity" the outputs have all kernels in common
        and differ in scales. So they do where a last layer of size 1 is put on top, as
        with ``kernel_sizes=(8, 8, 1)`` and ``activation=("relu", "identity")``. With
        one output, or one layer, there is nothing to share.
    loss : {"squared_error", "huber"}, default="squared_error"
        "huber": residuals beyond ``epsilon`` scales cost linearly, so that outliers
        of y do not rule the fit. The scale of each output's residuals is estimated
        along with the network (Huber's proposal 2 [3]_). The start is the fit of
        least squares to a y that is cut off two scales from its median. It is no help
        against outliers of X. Not with ``alpha="loo"``, nor with ``share_filters`` and
        several outputs.
    epsilon : float, default=1.35
        From how many scales on a residual costs linearly, 1 or more; only with
        ``loss="huber"``. The smaller, the less outliers count; at 1.35 the variance of
        the weights is 1.05 times that of least squares where the noise is normal. A
        scale is the standard deviation of normal residuals, where that of
        :class:`~sklearn.linear_model.HuberRegressor` is about 0.69 of it.
    alpha : float or "loo", default=0.0
        Ridge penalty: ``alpha`` times the squared norm of the weights that each
        filter would give the features if all its activations were the identity, added
        to the sum of squared residuals. It has the unit of X squared; rescaling y
        does not matter. For one filter of one linear layer it is that of
        :class:`~sklearn.linear_model.Ridge`. Where the last layer is linear and the
        kernels before it have norm 1, it is the penalty of a ridge regression on what
        that layer takes. "loo" chooses the one that predicts best, there, rows left out
        one by one, as :class:`~sklearn.linear_model.RidgeCV` does, before the polish
        and of a sample where rows are many; for networks whose
        ``output_activation`` is "identity".
    polish : bool, default=True
        Whether to polish the kernels. Without it the kernels are those of the
        moment, whose error falls only with the square root of the number of samples
        and, after a relu, not to zero; signs, scales and the intercept are those of a
        sample of the rows where they are many. With ``alpha="loo"`` only the hidden
        kernels are those of the moment; the last layer is a ridge regression on what
        it takes.
    max_iter : int, default=500
        Most passes that one start may take over the rows of a stage: over each of the
        samples of many rows, over all rows, and over all rows with ``loss="huber"``.
    tol : float, default=1e-6
        The polish ends where a step promises to lower the loss, or has lowered it, by
        less than ``tol`` of itself. On a sample of n of the rows it ends at 0.01 m / n
        for m weights, if that is more: noise hides the rest. What a smaller sample or
        an earlier part of a stream has found takes its last step on trust, without a
        pass that looks where it led.
    n_init : int or "auto", default="auto"
        Most starts (kernels of the moment and their signs) that get a short polish;
        the best of them gets the last one. Fewer are tried where one is exact, or where
        six agree (three, where there are 40 samples for each weight): in their loss to
        a thousandth or, from 8 samples for each weight on, to a tenth of what noise
        makes of it. "auto" takes the more, the fewer samples n there are for each of
        the m free weights of one filter: 8000 (m / n)^3, at most 1000, at least 20, or
        20 for each of up to three filters where n is below 8 for each weight; and 20
        where n is at most 1.25 m. With sample weights n is their sum over the smallest
        one above zero.
    n_jobs : int, default=None
        Threads for the passes over the data. The result does not depend on it, to the
        last bit. None means 1 unless in a :func:`joblib.parallel_config` context, -1
        all processors.
    random_state : int, RandomState instance or None, default=None
        For the starts that are drawn where those of the moment do not settle the
        matter, and for the samples of the rows. Pass an int for the same result at
        every call.
    verbose : int, default=0
        1 prints a line per stage: the samples, the starts and what is left of the loss
        after each, the passes.

    Attributes
    ----------
    kernels_ : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        The kernels of each layer, of unit norm (zero where nothing could be learned),
        in the dtype of X. With ``share_filters`` those of hidden layers repeat over
        the outputs.
    gains_ : ndarray of shape (n_outputs, n_filters, n_layers)
        Factor of each kernel inside its activation; 1 for relu, leaky_relu and
        identity, whose norm is moved to the next layer.
    scales_ : ndarray of shape (n_outputs, n_filters)
        Factor of each filter's output.
    biases_ : ndarray of shape (n_outputs, n_filters, n_layers - 1)
        Added to the pre-activations of each hidden layer; without ``hidden_bias`` the
        last axis is empty.
    intercept_ : ndarray of shape (n_outputs,)
    moment_ : ndarray of shape (n_outputs,) + input_shape
        The centred cross-moment of y and X, weighted by ``sample_weight``; with
        ``loss="huber"`` of a y that is cut off two scales from its median.
    scale_ : ndarray of shape (n_outputs,)
        The scale of the residuals, in the units of y: their standard deviation where
        they are normal. It is not larger for the weights that were fitted. Only with
        ``loss="huber"``.
    alpha_ : ndarray of shape (n_outputs,)
        What leave-one-out has chosen for each output, with ``share_filters`` one for
        all; only with ``alpha="loo"``.
    covariance_ : ndarray of shape (n_outputs, n_weights, n_weights)
        Of all weights of an output: per filter its kernels, first layer first, each in
        C order and times its gain, its scale and its biases; last the intercept. In
        the norms of the kernels of homogeneous layers nothing varies. Only with
        ``polish``, and for at most 13 000 weights; NaN where the rows, or the sum of
        ``sample_weight``, are no more than the weights. See ``predict`` for what it is
        worth.
    noise_variance_ : ndarray of shape (n_outputs,)
        Of y around the network: the sum of squared residuals over the number of samples
        (the sum of ``sample_weight``) that the weights leave; NaN where they leave
        none. Only with ``polish``. With ``loss="huber"`` what stands for it in
        ``covariance_``: the sum of squares of the residuals as the loss cuts them off,
        over the square of the share that it does not cut off.
    kernel_sizes_ : tuple
        The kernel sizes in use, as in ``kernel_sizes``.
    strides_ : tuple
        The strides in use, an entry per hidden layer.
    input_shape_ : tuple of int
    activations_ : tuple of str
        The activation of each layer, the last one's included.
    n_iter_ : int
        Passes over all rows that the polish of the start in use took, the largest
        number over the outputs; 1 where nothing was polished.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Only where X has string column names.

    See Also
    --------
    skdeeptd.datasets.make_patch_cnn_regression : Data with a planted network.
    skdeeptd.metrics.kernel_similarity : Compare two lists of kernels.
    skdeeptd.inspection.compare_with_linear : Tell whether a linear model is enough.

    Notes
    -----
    Where there are 200 rows for each weight or more (4000 at least), the search sees a
    sample of 50 for each weight, drawn in proportion to ``sample_weight``. What it
    finds is polished on larger samples and at the end on all rows, in two passes as a
    rule. One linear layer is solved in closed form. A sample takes 64 MiB at most;
    where these do not hold 10 rows for each weight, all rows are searched. Memory
    beside X: the samples, and a few blocks of rows. X may be a :class:`numpy.memmap`.

    With several outputs each has a network of its own, unless ``share_filters``; they
    share the pass that takes the moment. Kernels are found up to what the function does
    not depend on: the order of the filters, and the sign of a kernel whose activation
    is odd (the last one, with ``output_activation="identity"``) against the sign of the
    scale.

    References
    ----------
    .. [1] S. Oymak and M. Soltanolkotabi, "End-to-end Learning of a Convolutional
       Neural Network via Deep Tensor Decomposition", arXiv:1805.06523, 2018.
    .. [2] S. Oymak and M. Soltanolkotabi, "Learning a deep convolutional neural
       network via tensor decomposition", Information and Inference 10(3),
       1031-1071, 2021.
    .. [3] P. J. Huber, "Robust Statistics", Wiley, 1981, chapter 7.

    Examples
    --------
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
    """

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
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
        """Learn all kernels from the data.

        1. Validate the data, and lay the patches out.
        2. One pass: the centred cross-moment S of y and X.
        3. Per output: decompose S, with an axis per layer, into candidate kernels.
        4. One pass per candidate: their signs, scales and the intercept.
        5. Polish the best ones by Levenberg-Marquardt; with ``loss="huber"`` again with
           this loss, in turn with the scale of the residuals.
        6. Store the network with kernels of unit norm.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            float32 stays float32, everything else becomes float64.
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
            Where the data or a parameter are not as they should be. The estimator is
            not fitted then.
        """
        return self._fit(X, y, sample_weight)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn from one more part of a stream of data.

        The moment is that of all rows so far, to rounding. Signs, scales and the polish
        see a sample of them: all as long as they are at most 100 for each weight (1000
        at least), later as many, drawn in proportion to ``sample_weight`` from all. The
        kernels so far are where the polish begins; whenever the sample has
        doubled, other starts are tried beside them. So a call costs one pass over its
        rows and a few over the sample, and the noise left in the kernels does not fall
        below that of a fit on the sample. With ``loss="huber"`` each call fits the
        sample anew, its moment too.

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
            Where the data or a parameter are not as they should be, or the data have
            another shape than those before. The estimator is then as it was.

        Notes
        -----
        ``fit`` drops the state of the stream, and the first call after ``fit`` begins a
        new one. All other attributes that speak of rows (``n_iter_``,
        ``covariance_``, ``noise_variance_``) are those of the sample.

        Examples
        --------
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
        """
        return self._partial_fit(X, y, sample_weight)
