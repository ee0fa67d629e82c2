"""cnn evaluate: a trained model is judged on the test images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn.options import add_data, add_fused, add_json, add_runtime, chosen_data, emit, runtime

if TYPE_CHECKING:
    from torch import Tensor

    from cnn.learn.training import Evaluation

NAME = "evaluate"
HELP = "judge a trained model on test images: accuracy with counts, and what it confuses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; --data is by default what the model was trained on."""
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("--checkpoint", required=True, metavar="MODEL.pt", help="what `cnn train` wrote")
    parser.add_argument("--model", choices=("lenet", "mlp", "gap"), help="refuse a checkpoint of any other model")
    parser.add_argument("--output", metavar="DIR", help="also write confusion.png and mistakes.png into this folder")
    add_data(parser, default=None)
    add_runtime(parser)
    add_fused(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the accuracy, the accuracy of each class and the most frequent mistakes."""
    from cnn.learn.checkpoint import load
    from cnn.learn.session import counted
    from cnn.learn.training import evaluate
    from cnn.models import set_fused
    from cnn.see.confusion import confusion_matrix

    checkpoint = load(args.checkpoint, args.model)
    with runtime(args) as device:
        data = chosen_data(args.data or checkpoint.data, args.limit, checkpoint.layout, args.download)
        checkpoint.require_classes(data.classes, data.name)
        judged = evaluate(set_fused(checkpoint.build(), args.fused), data.test_images, data.test_labels, device)
    predictions = judged.scores.argmax(1)
    matrix = confusion_matrix(data.test_labels, predictions, len(data.classes))
    result = as_dict(judged, data.test_labels, matrix)
    accuracy = f"test accuracy {counted(judged.correct, judged.total)}, loss {judged.loss:.4f}"
    lines = [f"{checkpoint.model} on {data.name}: {accuracy}", *class_lines(matrix, data.classes)]
    if args.output:
        from cnn.pictures.confusion import draw_confusion
        from cnn.pictures.mistakes import draw_mistakes

        folder = Path(args.output)
        title = f"{checkpoint.model} on {data.name}\n{accuracy}"
        confusion = draw_confusion(matrix, data.classes, folder / "confusion.png", title)
        images = (data.test_images, data.test_labels, judged.scores)
        mistakes = draw_mistakes(*images, data.classes, folder / "mistakes.png")
        result.update(confusion_picture=str(confusion), mistakes_picture=str(mistakes) if mistakes else None)
        lines += [f"confusion matrix  {confusion}", f"mistakes          {mistakes or 'none'}"]
    emit(args, result, "\n".join(lines))
    return 0


def as_dict(judged: Evaluation, labels: Tensor, matrix: Tensor) -> dict[str, Any]:
    """Plain values for a program; `wrong` are places in the test set."""
    return {
        "test_accuracy": judged.correct / judged.total,
        "test_correct": judged.correct,
        "test_total": judged.total,
        "test_loss": judged.loss,
        "confusion": matrix.tolist(),
        "wrong": (judged.scores.argmax(1) != labels).nonzero().flatten().tolist(),
    }


def class_lines(matrix: Tensor, classes: tuple[str, ...]) -> list[str]:
    """Each class with its share of right answers, then the most frequent mistakes."""
    from cnn.learn.session import counted
    from cnn.see.confusion import most_confused

    width = max(len(name) for name in classes)
    lines = []
    for name, row, right in zip(classes, matrix, matrix.diagonal(), strict=True):
        if row.sum():
            lines.append(f"  {name:{width}}  {counted(int(right), int(row.sum()))}")
    for true, predicted, count in most_confused(matrix):
        lines.append(f"  {classes[true]} taken for {classes[predicted]}: {count}x")
    return lines
