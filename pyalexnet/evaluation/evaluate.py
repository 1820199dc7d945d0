"""Measuring a classifier on labelled images, apart from those that it learned from."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

from pyalexnet.data import DataSource
from pyalexnet.data.augmentation import require_views
from pyalexnet.data.dataset import Dataset, labels_among
from pyalexnet.data.opening import as_test_dataset
from pyalexnet.data.prefetch import batch_count
from pyalexnet.data.readable import OnError, readable
from pyalexnet.evaluation.choices import BATCH_SIZE
from pyalexnet.evaluation.own_data import TrainedOn, held_out_images, trained_on
from pyalexnet.evaluation.sharing import agree_on, heard_of_first
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.judging import Answers, Evaluation, Tally, judged_batches
from pyalexnet.net.model_file import as_model
from pyalexnet.system.checks import at_least, callback, flag
from pyalexnet.system.ranks import Ranks, join_ranks


def evaluate(
    model: Classifier | str | PathLike[str],
    data: DataSource | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    views: int = 1,
    overlap: bool | None = None,
    on_error: OnError = "stop",
    on_stage: Callable[[str, int], None] = lambda _stage, _count: None,
    on_images: Callable[[int], None] = lambda _count: None,
) -> Evaluation:
    """Measure a classifier on labelled images.

    Processes that a launcher of MPI started share the images; all call this alike, and get the same result.

    Args:
        model: what :func:`pyalexnet.load_model` returned or takes: a run's folder, or a model file.
        data: labelled images, named as for :func:`pyalexnet.train`, with classes of the model's names; of data with a
            held-out part of its own that part, of ``"digits"`` what training by default holds out. By default the
            images that the model's own run held out.
        batch_size: images that the net computes at a time.
        views: 1 judges the centre of each image; 5 averages the probabilities over the centre and the four
            corners; 10 over these and their mirror images, as the paper does. Mirror images serve only where left
            and right do not matter: not for writing.
        overlap: whether to find out which of the images the model learned from. That may take reading all of its
            training images; None: if there are not over :data:`pyalexnet.evaluation.own_data.MOST_COMPARED` to be read.
        on_error: what an image does that cannot be read: ``"stop"`` raises; with ``"skip"`` all such are found first,
            and left out with a warning that names them; or what is to be called with the error of each. Of several
            processes rank 0 warns and calls, as with the arguments that follow.
        on_stage: called with what begins and how many images it will go through.
        on_images: called with the number of images done since the last call.

    Raises:
        DataError: the data cannot serve, or has a class that the model does not know; or there is no ``data``, and the
            run's own held-out images are not known, not there or not as they were.
        ValueError: ``batch_size`` or ``views`` makes no sense; or ranks do not agree.
        LauncherError: several processes were started that cannot find each other by MPI; the message says how to.
        OutOfMemoryError: a device has not memory for ``batch_size`` images.
    """
    ranks = join_ranks()
    with ranks.ending_together():
        batch_size, views = at_least("batch_size", batch_size, 1), require_views(views)
        overlap = None if overlap is None else flag("overlap", overlap)
        callback("on_stage", on_stage)
        callback("on_images", on_images)
        on_stage, on_images = heard_of_first(ranks, on_stage), heard_of_first(ranks, on_images)
        model = as_model(model, local_rank=ranks.local_rank)
        dataset = held_out_images(model) if data is None else as_test_dataset(data)
        settings = {"batch_size": batch_size, "views": views, "overlap": overlap, "on_error": on_error}
        agree_on(ranks, model, dataset, settings)
        dataset = readable(dataset, on_error, on_stage=on_stage, on_images=on_images, ranks=ranks)
        labels_among(dataset, model.classes)  # refused before anything takes time
        known = trained_on(model, dataset, asked=overlap, on_stage=on_stage, on_images=on_images, ranks=ranks)
        on_stage("evaluating", len(dataset))
        return _judged(model, dataset, batch_size, views, known, on_images, ranks)


def _judged(
    model: Classifier,
    dataset: Dataset,
    batch_size: int,
    views: int,
    known: TrainedOn,
    on_images: Callable[[int], None],
    ranks: Ranks,
) -> Evaluation:
    """All images, and apart those that were not trained on; ranks share them."""
    own = (
        (Answers.of(batch.probabilities, batch.labels), ~known.among(batch.indices, batch.images))
        for batch in judged_batches(model, dataset, batch_size, views, ranks)
    )
    everything, unseen = Tally(model), Tally(model)
    for of_round in ranks.in_rounds(own, batch_count(len(dataset), batch_size)):
        for answers, new in of_round:
            everything.count_answers(answers)
            unseen.count_answers(answers.only(new))
            on_images(len(new))
    if known.not_checked:
        return everything.evaluation(views, not_checked=known.not_checked)
    learned = everything.count - unseen.count
    apart = unseen.evaluation(views, trained_on=0) if learned and unseen.count else None
    return everything.evaluation(views, trained_on=learned, unseen=apart)
