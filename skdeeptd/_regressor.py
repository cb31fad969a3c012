"""DeepTDRegressor: validate, call the numerical modules, store."""

import copy
import functools
import itertools
import math
import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._activations import ACTIVATIONS, layer_activations
from skdeeptd._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    check_sample_weight,
    fit_context,
    told,
)
from skdeeptd._decomposition import moment_tensor
from skdeeptd._deeptd import learn
from skdeeptd._diagnosis import explained_share, noise_share
from skdeeptd._geometry import degrees_of_freedom, make_layout
from skdeeptd._network import PatchCNN, alike, forward, pack, patch_order, split_gains
from skdeeptd._polish import Objective
from skdeeptd._problem import make_problem
from skdeeptd._rows import RowBlocks, concatenate_blocks, single_threaded_blas
from skdeeptd._search import Task, automatic_starts, refine, search
from skdeeptd._stream import empty_stream, stream_of
from skdeeptd._uncertainty import output_std, uncertainty

DOCUMENTATION = "https://skdeeptd.readthedocs.io/en/stable"
FRESH = itertools.repeat(search)  # each output begins with no network
KEPT_PER_WEIGHT, FEWEST_KEPT = 100, 1000  # rows of a stream


def forget(estimator):
    """Drop what an earlier fit has stored."""
    for name in [name for name in vars(estimator) if name.endswith("_")]:
        delattr(estimator, name)


def forgetting(fit):
    """Forget first, so that a fit that fails leaves no model."""

    @functools.wraps(fit)
    def forget_and_fit(self, *args, **kwargs):
        forget(self)
        return fit(self, *args, **kwargs)

    return forget_and_fit


def refuse_dask(**data):
    """Raise for a dask collection, which scikit-learn would load whole."""
    for name, value in data.items():
        if hasattr(value, "__dask_graph__"):
            raise TypeError(
                f"{name} is a dask collection. Use fit, predict and score of "
                f"skdeeptd.dask.DaskDeepTDRegressor, with X as one too, or load all of "
                f"it with {name}.compute()"
            )


def check_range_of_weights(lightest, row, heaviest):
    """``row`` is where the lightest weight stands."""
    if lightest < 0:
        raise ValueError(
            f"sample_weight must not be negative, got {lightest:g} at row {row}"
        )
    if heaviest == 0:
        raise ValueError("sample_weight is zero everywhere; at least one must not be")


def _silent(line):
    """Report nothing."""


class DeepTDRegressor(
    CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator
):
    """Convolutional network with non-overlapping patches, learned by DeepTD.

    Layer l has one kernel of d_l weights per filter, which slides over the output of
    the layer below with a stride of its own length; the kernel sizes multiply to the
    number of features, so that one number per filter is left at the end::

        y = intercept + sum over filters of scale * phi_D(k_D * ... phi_1(k_1 * x))

    There is no gradient descent from a random start. One pass over the data gives the
    cross-moment of X and y; with an axis per layer it is close to the outer product
    of the kernels, so that its rank-1 decomposition (rank-R for R filters) gives all
    of them at once, up to their signs and scales. A short Gauss-Newton polish then
    makes them exact.

    Parameters
    ----------
    kernel_sizes : sequence of int or of tuple of int, default=None
        The kernel size of each layer, first layer first. On each axis of the input
        they multiply to its length: ``(4, 6)`` for 24 features, ``((4, 4), (2, 2))``
        for ``input_shape=(8, 8)``. A tuple that is shorter than ``input_shape`` has
        size 1 on the axes that it leaves out; an int holds for every axis that the
        layers before have not used up.

        None takes two layers and splits each axis as evenly as it divides, the larger
        part in the first layer: (6, 5) for 30 features. Of the shapes with one hidden
        layer this one has the fewest weights; more layers can have fewer, but need more
        samples for each. Where an axis is prime, the second layer has size 1 on it;
        where all are, there is one layer, which with ``output_activation="identity"``
        is linear regression.
    input_shape : sequence of int, default=None
        The shape of a sample, channels last if there are any; X holds its entries in
        C order. None takes it from an X of more than two axes, and is one axis else.
    padding : {"valid", "same"}, default="valid"
        "valid": on each axis the kernel sizes multiply to its length. "same": they may
        cover more; zeros then stand at the end of the axis, but no weight of a kernel
        may meet zeros only. ``kernel_sizes=None`` with "same" splits each axis into
        the root of its length and what is left, rounded up: (10, 10) for 97.
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
    alpha : float, default=0.0
        Ridge penalty: ``alpha`` times the squared norm of the weights that each
        filter would give the features if all its activations were the identity, added
        to the sum of squared residuals. It has the unit of X squared; rescaling y
        does not matter. For one filter of one linear layer it is that of
        :class:`~sklearn.linear_model.Ridge`.
    polish : bool, default=True
        Whether to polish the kernels. Without it the kernels are those of the
        moment, whose error falls only with the square root of the number of samples
        and, after a relu, not to zero; signs, scales and the intercept are those of a
        sample of the rows where they are many.
    max_iter : int, default=500
        Most passes over the data that the polish of one start may take.
    tol : float, default=1e-6
        The polish ends where a step promises to lower the loss by less than ``tol``
        of itself.
    n_init : int or "auto", default="auto"
        Most starts (kernels of the moment and their signs) that get a short polish;
        the best of them gets the last one. Fewer are tried where six agree or one is
        exact. "auto" takes the more, the fewer samples n there are for each of the m
        free weights: 8000 (m / n)^3, at least 20, at most 1000; and 20 where n is at
        most m. With sample weights n is their sum over the smallest one above zero.
        With more than four filters a larger number can find a lower minimum.
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
        in the dtype of X.
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
        The centred cross-moment of y and X, weighted by ``sample_weight``.
    explained_moment_ : ndarray of shape (n_outputs,)
        Share of the squared norm of the moment that the kernels explain, from 0 to 1.
        It tells whether the data look like a patch network of this shape at all:
        compare it with ``explained_by_noise_``, and with that of other shapes. Where
        the two are close, the kernels found nothing that noise would not have, or not
        of this shape. It grows with the samples, and after a hidden relu stays below 1.
        For one layer both are about 1 and tell nothing.
    explained_by_noise_ : float
        The same share for a y of pure noise, of which rank-R approximations of this
        shape explain a part too: the mean of three draws with the X of the fit, or a
        sample of 1000 of its rows.
    stream_ : dict
        Only after ``partial_fit``: the moment of all rows so far ("moment": the sum of
        their weights, the means of y and X, and the centred sum of their products, all
        in float64) and the sample of rows that is kept ("sample": X, y, the weights and
        two arrays for drawing it): 100 rows for each weight, 1000 at least.
    covariance_ : ndarray of shape (n_outputs, n_weights, n_weights)
        Of all weights of an output: per filter its kernels, first layer first, each in
        C order and times its gain, its scale and its biases; last the intercept. In
        the norms of the kernels of homogeneous layers nothing varies. Only with
        ``polish``; NaN where there are no more rows than weights. See ``predict``
        for what it is worth.
    noise_variance_ : ndarray of shape (n_outputs,)
        Of y around the network: the sum of squared residuals over the number of samples
        (the sum of ``sample_weight``) that the weights leave. Only with ``polish``.
    kernel_sizes_ : tuple
        The kernel sizes in use, as in ``kernel_sizes``.
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

    Notes
    -----
    Where there are 200 rows for each weight or more (4000 at least), the search sees a
    sample of 50 for each weight, drawn in proportion to ``sample_weight``. What it
    finds is polished on larger samples and at the end on all rows, in two or three
    passes. A sample takes 64 MiB at most; where these do not hold 10 rows for each
    weight, all rows are searched. Memory beside X: the samples, and a few blocks of
    rows. X may be a :class:`numpy.memmap`.

    With several outputs each has a network of its own; they share the pass that takes
    the moment. Kernels are found up to what the function does not depend on: the order
    of the filters, and the sign of a kernel whose activation is odd (the last one,
    with ``output_activation="identity"``) against the sign of the scale.

    References
    ----------
    .. [1] S. Oymak and M. Soltanolkotabi, "End-to-end Learning of a Convolutional
       Neural Network via Deep Tensor Decomposition", arXiv:1805.06523, 2018.
    .. [2] S. Oymak and M. Soltanolkotabi, "Learning a deep convolutional neural
       network via tensor decomposition", Information and Inference 10(3),
       1031-1071, 2021.

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.metrics import kernel_similarity
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 4, 4), random_state=0
    ... )
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
    >>> model.fit(X[:100], y[:100]).score(X[100:], y[100:]) > 1 - 1e-6
    True
    >>> kernel_similarity(model.kernels_, kernels).round(6)
    array([1., 1., 1.])

    Do the data look like a network of this shape? The kernels explain much more of the
    moment than they would if y were noise; of a shuffled y they do not:

    >>> X, y, _ = make_patch_cnn_regression(
    ...     n_samples=1000, kernel_sizes=(8, 8, 8), random_state=0
    ... )
    >>> for target in (y, y[::-1]):
    ...     model = DeepTDRegressor(kernel_sizes=(8, 8, 8), polish=False)
    ...     _ = model.fit(X, target)
    ...     print(model.explained_moment_.round(2), round(model.explained_by_noise_, 2))
    [0.62] 0.09
    [0.07] 0.09
    """

    _doc_link_module = "skdeeptd"
    _doc_link_template = (
        DOCUMENTATION + "/generated/{estimator_module}.{estimator_name}.html"
    )
    _parameter_constraints: dict = {
        "kernel_sizes": ["array-like", None],
        "input_shape": ["array-like", None],
        "padding": [StrOptions({"valid", "same"})],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "output_activation": [StrOptions(set(ACTIVATIONS))],
        "fit_intercept": ["boolean"],
        "hidden_bias": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "polish": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        kernel_sizes=None,
        *,
        input_shape=None,
        padding="valid",
        n_filters=1,
        activation="relu",
        output_activation="identity",
        fit_intercept=True,
        hidden_bias=False,
        alpha=0.0,
        polish=True,
        max_iter=500,
        tol=1e-6,
        n_init="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.kernel_sizes = kernel_sizes
        self.input_shape = input_shape
        self.padding = padding
        self.n_filters = n_filters
        self.activation = activation
        self.output_activation = output_activation
        self.fit_intercept = fit_intercept
        self.hidden_bias = hidden_bias
        self.alpha = alpha
        self.polish = polish
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @forgetting
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Learn all kernels from the data.

        1. Validate the data, and lay the patches out.
        2. One pass: the centred cross-moment S of y and X.
        3. Per output: decompose S, with an axis per layer, into candidate kernels.
        4. One pass per candidate: their signs, scales and the intercept.
        5. Polish the best ones by Levenberg-Marquardt.
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
        fit = self._init_callback_context(max_subtasks=3)
        metadata = {"sample_weight": sample_weight}
        with told(fit, self, X=X, y=y, metadata=metadata):
            rows, input_shape = self._row_blocks(X, y, sample_weight)
            layout, blank = self._lay_out(self.n_features_in_, input_shape)
            with single_threaded_blas(), self._explaining(rows):
                results = self._fit_rows(rows, layout, blank, fit)
        self._warn(results)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Learn from one more part of a stream of data.

        The moment is that of all rows so far, to rounding. Signs, scales and the polish
        see a sample of them: all as long as they are at most 100 for each weight (1000
        at least), later as many, drawn in proportion to ``sample_weight`` from all. The
        kernels so far are where the polish begins; whenever the sample has
        doubled, other starts are tried beside them. So a call costs one pass over its
        rows and a few over the sample, and the noise left in the kernels does not fall
        below that of a fit on the sample.

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
        ``stream_`` holds the state. ``fit`` drops it, and the first call after ``fit``
        begins a new stream. All other attributes that speak of rows (``n_iter_``,
        ``covariance_``, ``noise_variance_``, ``explained_by_noise_``) are those of the
        sample.

        Examples
        --------
        >>> from skdeeptd import DeepTDRegressor
        >>> from skdeeptd.datasets import make_patch_cnn_regression
        >>> X, y, _ = make_patch_cnn_regression(
        ...     n_samples=1000, kernel_sizes=(4, 4, 4), random_state=0
        ... )
        >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
        >>> for begin in range(0, 800, 200):
        ...     part = slice(begin, begin + 200)
        ...     _ = model.partial_fit(X[part], y[part])
        >>> model.score(X[800:], y[800:]) > 1 - 1e-6
        True
        """
        self._validate_params()  # which scikit-learn does before the first part only
        draft = copy.copy(self)  # what fails half-way leaves the estimator as it was
        if not hasattr(self, "stream_"):
            forget(draft)
        results = draft._take_in(X, y, sample_weight)
        vars(self).clear()
        vars(self).update(vars(draft))
        self._warn(results)
        return self

    def _take_in(self, X, y, sample_weight):
        """Steps 1 to 6 of ``fit`` on the stream so far; a ``Polished`` per output."""
        begun = hasattr(self, "stream_")
        X, input_shape = self._flatten(
            X, self.input_shape_ if begun else self.input_shape
        )
        X, y, weight = self._validate(X, y, sample_weight, reset=not begun)
        layout, blank = self._lay_out(X.shape[1], input_shape)
        capacity = max(FEWEST_KEPT, KEPT_PER_WEIGHT * len(pack(blank)))
        with single_threaded_blas(), self._explaining(RowBlocks(X, y, weight)):
            stream = self._stream(X, y).extended(X, y, weight, capacity, self.n_jobs)
            sample = stream.sample
            balanced = sample.balanced_weight()
            rows = RowBlocks(sample.X, sample.y, balanced, self.n_jobs)
            problem = make_problem(rows, self.fit_intercept)
            moment = stream.moment.covariance() / problem.unit[:, np.newaxis]
            grown = len(sample.X) >= 2 * stream.searched
            task = self._task(problem, layout, blank)
            task = task.with_alpha_times(np.sum(sample.weight) / stream.moment.weight)
            steps = self._steps(problem, blank, grown) if begun else FRESH
            results = list(self._learn(problem, moment, task, steps))
            self._store(problem, moment, results, layout, sample.X.dtype)
            self._store_diagnosis(problem, moment, results, task)
        searched = len(sample.X) if grown else stream.searched
        self.stream_ = stream._replace(searched=searched).as_dict()
        return results

    def _stream(self, X, y):
        """The stream so far."""
        if not hasattr(self, "stream_"):
            return empty_stream(X, y, self._seed())
        stream = stream_of(self.stream_)
        n_outputs = stream.sample.y.shape[1]
        if y.shape[1] != n_outputs:
            raise ValueError(
                f"y has {y.shape[1]} outputs, but that of the first call had "
                f"{n_outputs}"
            )
        return stream

    def _steps(self, problem, blank, grown):
        """How each output begins: from its network so far, where there is one."""
        steps = []
        for output, network in enumerate(self._networks()):
            network = problem.in_units_of_target(network, output)
            known = alike(network, blank) and np.any(network.scales)
            if not (known and self.polish):
                steps.append(search)
            elif grown:
                steps.append(functools.partial(search, first=network))
            else:
                steps.append(functools.partial(refine, network=network))
        return steps

    def _row_blocks(self, X, y, sample_weight):
        """Step 1 of ``fit``: the rows, and the shape of a sample."""
        X, input_shape = self._flatten(X, self.input_shape)
        return RowBlocks(*self._validate(X, y, sample_weight), self.n_jobs), input_shape

    def _fit_rows(self, rows, layout, blank, fit):
        """Steps 2 to 6 of ``fit``; a ``Polished`` per output."""
        with told(fit.subcontext(task_name="moment"), self):
            problem = make_problem(rows, self.fit_intercept)
            moment = problem.moment()
        self._report(f"moment: {problem.n_rows} rows of {moment.shape[1]} features")
        task = self._task(problem, layout, blank)
        kernels = fit.subcontext(task_name="kernels", max_subtasks=len(moment))
        learned, results = self._learn(problem, moment, task), []
        with told(kernels, self):
            for output in range(len(moment)):
                with told(kernels.subcontext(task_name=f"output {output}"), self):
                    results.append(next(learned))
        with told(fit.subcontext(task_name="uncertainty"), self):
            self._store(problem, moment, results, layout, rows.precision)
            self._store_diagnosis(problem, moment, results, task)
        return results

    def _task(self, problem, layout, blank):
        """What to learn of each output, but for its moment."""
        n_init = self.n_init
        if n_init == "auto":
            of_filter = degrees_of_freedom(layout.sizes) + len(blank.biases)
            n_weights = self.n_filters * of_filter
            n_init = automatic_starts(problem.count(), n_weights)
        return Task(
            moment=None,
            blank=blank,
            objective=self._objective(problem),
            polish=self.polish,
            max_iter=self.max_iter,
            tol=self.tol,
            n_init=n_init,
            seed=self._seed(),
            report=self._report,
        )

    def _learn(self, problem, moment, task, steps=FRESH):
        """Steps 3 to 5 of ``fit``, output by output; a ``Polished`` of each."""
        in_order = patch_order(task.blank, moment)
        for output, (of_output, step) in enumerate(zip(in_order, steps)):
            yield learn(problem, output, task._replace(moment=of_output), step)

    def _seed(self):
        return check_random_state(self.random_state).randint(np.iinfo(np.int32).max)

    def _objective(self, problem):
        with np.errstate(over="ignore"):
            alpha = self.alpha / problem.heaviest
        if not np.isfinite(alpha):
            raise ValueError(
                f"alpha={self.alpha} is too large for weights of at most "
                f"{problem.heaviest:.3g}: their ratio overflows"
            )
        return Objective(alpha, self.fit_intercept)

    def _store_diagnosis(self, problem, moment, results, task):
        """How far the network can be trusted."""
        blank = task.blank
        for name in ("covariance_", "noise_variance_"):
            vars(self).pop(name, None)
        if self.polish:
            of_outputs = [
                uncertainty(result, task.objective, problem, output)
                for output, result in enumerate(results)
            ]
            covariances, noise_variances = zip(*of_outputs, strict=True)
            self.covariance_ = np.array(covariances)
            self.noise_variance_ = np.array(noise_variances)
        sizes = tuple(k.shape[1] for k in blank.kernels)
        tensors = [moment_tensor(m, sizes) for m in patch_order(blank, moment)]
        shares = [
            explained_share(tensor, result.network.kernels)
            for tensor, result in zip(tensors, results, strict=True)
        ]
        self.explained_moment_ = np.array(shares)
        noise = functools.partial(noise_share, blank=blank)
        self.explained_by_noise_ = problem.few_rows().run(noise)

    def predict(self, X, return_std=False):
        """Output of the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return its standard deviation too: how far the mean of y at X may
            be from the output, not a single y, whose variance is larger by
            ``noise_variance_``. It is that of nonlinear least squares: right for many
            samples, if y is a network of this shape plus noise of one variance, and
            blind to whether it is. ``alpha`` counts as prior knowledge.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the dtype of X, float32 or float64.
        y_std : ndarray of the same shape and dtype
            Only with ``return_std``; NaN if the fit had no more rows than weights.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            Where X has another number of features than in ``fit``, or NaN or inf; with
            ``return_std`` where the fit was one with ``polish=False``.
        """
        check_is_fitted(self)
        if return_std and not hasattr(self, "covariance_"):
            raise ValueError(
                "return_std=True needs a fit with polish=True: the kernels of the "
                "moment alone have no known covariance"
            )
        X, _ = self._flatten(X, self.input_shape_)
        X = validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,  # the network's output tells, in one pass less
            reset=False,
        )
        networks = self._networks()
        in_dtype = [network.astype(X.dtype) for network in networks]

        def outputs(block):
            return np.column_stack([forward(network, block) for network in in_dtype])

        def stds(block):
            of_outputs = [
                output_std(network, covariance, block)
                for network, covariance in zip(networks, self.covariance_, strict=True)
            ]
            return np.column_stack(of_outputs).astype(X.dtype)

        predicted = self._like_y(concatenate_blocks(outputs, X, self.n_jobs))
        if not np.all(np.isfinite(predicted)):
            with np.errstate(invalid="ignore"):  # the check's own sum may overflow
                check_array(X, input_name="X", estimator=self)
        if not return_std:
            return predicted
        std = self._like_y(concatenate_blocks(stds, X, self.n_jobs))
        return predicted, np.where(np.isfinite(predicted), std, np.nan)

    def _like_y(self, columns):
        return columns[:, 0] if self._y_is_1d else columns

    def __sklearn_is_fitted__(self):
        return hasattr(self, "kernels_")

    def _flatten(self, X, input_shape):
        """X with a row per sample, and the shape of a sample."""
        refuse_dask(X=X)
        shape = getattr(X, "shape", ())[1:]
        if len(shape) < 2:
            return X, input_shape
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(
                f"X has samples of shape {shape}, but input_shape is "
                f"{tuple(input_shape)}"
            )
        return X.reshape(len(X), math.prod(shape)), shape

    def _validate(self, X, y, sample_weight, reset=True):
        """X, y as a float64 (n_samples, n_outputs) array, and the weights."""
        refuse_dask(y=y, sample_weight=sample_weight)
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,  # the moment tells, in one pass less
            multi_output=True,
            y_numeric=True,
            reset=reset,
        )
        if issparse(y) or y.dtype.kind not in "biuf":
            raise TypeError(f"y must be a dense array of numbers, got {y!r}")
        weight = check_sample_weight(sample_weight, X, dtype=np.float64)
        check_range_of_weights(weight.min(), weight.argmin(), weight.max())
        without = np.flatnonzero(weight == 0)
        if len(without):
            check_array(X[without], dtype=None, input_name="X", estimator=self)
        self._y_is_1d = y.ndim == 1
        y = y.astype(np.float64).reshape(len(X), -1)
        if y.shape[1] == 0:
            raise ValueError(f"y must have at least one output, got shape {y.shape}")
        return X, y, weight

    def _lay_out(self, n_features, input_shape):
        """The layout of the patches, and a network of it whose weights are zero."""
        layout = make_layout(n_features, self.kernel_sizes, input_shape, self.padding)
        n_biases = len(layout.sizes) - 1 if self.hidden_bias else 0
        blank = PatchCNN(
            kernels=tuple(np.zeros((self.n_filters, d)) for d in layout.sizes),
            scales=np.zeros(self.n_filters),
            intercept=0.0,
            activations=layer_activations(
                self.activation, self.output_activation, len(layout.sizes)
            ),
            order=layout.order,
            biases=(np.zeros(self.n_filters),) * n_biases,
        )
        return layout, blank

    @contextmanager
    def _explaining(self, rows):
        """Say of numbers that do not fit in the sums whether they are finite at all."""
        try:
            yield
        except FloatingPointError as error:
            largest, largest_y = rows.largest()
            self._check_finite(largest)
            raise ValueError(
                f"X or y is too large or too small: {error}. The largest |X| is "
                f"{largest:.3g}, the largest |y| {largest_y:.3g}; rescale them, for "
                f"example with StandardScaler"
            ) from error

    def _check_finite(self, largest):
        """Raise scikit-learn's error of an X whose largest absolute value is this."""
        check_array([[largest]], dtype=None, input_name="X", estimator=self)

    @property
    def _report(self):
        """Takes a line on the progress; knows nothing of the estimator but its name."""
        if self.verbose:
            return functools.partial(print, f"[{type(self).__name__}]")
        return _silent

    def _store(self, problem, moment, results, layout, dtype):
        """Step 6 of ``fit``."""
        networks = [
            problem.in_units_of_y(result.network, output)
            for output, result in enumerate(results)
        ]
        kernels, *others = zip(*map(split_gains, networks), strict=True)
        _, scales, _ = others
        intercepts = [network.intercept for network in networks]
        with np.errstate(over="ignore"):
            numbers = [np.array(a).astype(dtype) for a in (*others, intercepts)]
        if not all(np.all(np.isfinite(array)) for array in numbers):
            raise ValueError(
                f"the factors of the network overflow {np.dtype(dtype).name}: the "
                f"largest scale is {np.abs(scales).max():.3g}; rescale X and y"
            )
        self.kernels_ = [
            np.stack(of_layer).reshape(len(networks), -1, *shape).astype(dtype)
            for of_layer, shape in zip(
                zip(*kernels, strict=True), layout.kernel_shapes, strict=True
            )
        ]
        self.gains_, self.scales_, self.biases_, self.intercept_ = numbers
        self.kernel_sizes_ = layout.kernel_sizes
        self.input_shape_ = layout.input_shape
        self._padding = self.padding
        self.activations_ = networks[0].activations
        in_units = moment * problem.unit[:, np.newaxis]
        self.moment_ = in_units.reshape(-1, *layout.input_shape).astype(dtype)
        self.n_iter_ = max(result.n_iter for result in results)

    def _networks(self):
        """A PatchCNN per output."""
        layout = make_layout(
            self.n_features_in_, self.kernel_sizes_, self.input_shape_, self._padding
        )
        n_outputs, n_filters, _ = self.gains_.shape
        return [
            PatchCNN(
                kernels=tuple(
                    k[output].reshape(n_filters, -1) * gain[:, np.newaxis]
                    for k, gain in zip(
                        self.kernels_, self.gains_[output].T, strict=True
                    )
                ),
                scales=self.scales_[output],
                intercept=self.intercept_[output],
                activations=self.activations_,
                order=layout.order,
                biases=tuple(self.biases_[output].T),
            )
            for output in range(n_outputs)
        ]

    def _warn(self, results):
        out_of_budget = [i for i, r in enumerate(results) if not r.converged]
        if out_of_budget:
            warnings.warn(
                f"The polish of output {out_of_budget} used up max_iter="
                f"{self.max_iter} passes; raise max_iter, or tol={self.tol:g}.",
                ConvergenceWarning,
                stacklevel=5,
            )
        constant = np.flatnonzero(~self.scales_.any(axis=1)).tolist()
        if constant:
            warnings.warn(
                f"Nothing could be learned for output {constant}: its moment with X is "
                f"zero, or no network with kernel_sizes={self.kernel_sizes_} fits "
                f"better than a constant, which is what is predicted.",
                UserWarning,
                stacklevel=5,
            )
