"""neuraloperator's own example of Darcy flow, run by the Python of another environment: it imports nothing of ours.

An FNO with modes (8, 8) and 32 hidden channels (340,833 parameters), 20 epochs of AdamW on the H1 loss, as the
example of versions 1.0.x trains it on the files that the package ships: the output encoded, batches of 32, a cosine
over 30 epochs. That of version 2.0 is smaller and trains for 15 epochs.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Train, score at both resolutions, and write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    import torch
    from neuralop import H1Loss, LpLoss, Trainer
    from neuralop.data.datasets.darcy import DarcyDataset
    from neuralop.models import FNO
    from neuralop.training import AdamW
    from neuralop.utils import count_model_params

    torch.manual_seed(given.seed)
    data = DarcyDataset(
        root_dir=given.data,
        n_train=1000,
        n_tests=[50, 50],
        batch_size=32,
        test_batch_sizes=[32, 32],
        train_resolution=16,
        test_resolutions=[16, 32],
        encode_input=False,
        encode_output=True,
        download=False,
    )
    loader = torch.utils.data.DataLoader
    learn = loader(data.train_db, batch_size=32, shuffle=True)
    tests = {n: loader(data.test_dbs[n], batch_size=32, shuffle=False) for n in (16, 32)}
    model = FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=32, projection_channel_ratio=2)
    optimizer = AdamW(model.parameters(), lr=8e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    trainer = Trainer(
        model=model,
        n_epochs=given.epochs,
        device="cpu",
        data_processor=data.data_processor,
        wandb_log=False,
        eval_interval=given.epochs,
        use_distributed=False,
        verbose=False,
    )
    losses = {"h1": H1Loss(d=2), "l2": LpLoss(d=2, p=2)}
    start = time.perf_counter()
    trainer.train(
        train_loader=learn,
        # Scored below, outside of the time of training.
        test_loaders={},
        optimizer=optimizer,
        scheduler=scheduler,
        regularizer=False,
        training_loss=losses["h1"],
        eval_losses=losses,
    )
    seconds = time.perf_counter() - start
    model.eval()
    # In training it leaves the output encoded.
    data.data_processor.eval()
    errors = {}
    for n, batches in tests.items():
        found = []
        with torch.no_grad():
            for batch in batches:
                sample = data.data_processor.preprocess(dict(batch), batched=True)
                out, sample = data.data_processor.postprocess(model(sample["x"]), sample)
                axes = (1, 2, 3)
                error = torch.sqrt(((out - sample["y"]) ** 2).sum(axes) / (sample["y"] ** 2).sum(axes))
                found += error.tolist()
        errors[str(n)] = sum(found) / len(found)
    result = {
        "version": f"neuraloperator {version('neuraloperator')}",
        "seconds": seconds,
        "parameters": count_model_params(model),
        "relative_l2": errors,
    }
    given.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
