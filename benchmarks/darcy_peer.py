"""Runs neuraloperator's own example of Darcy flow in another environment, so it imports nothing of Understudy.

As in the example of versions 1.0.x, it trains an FNO with modes (8, 8) and 32 hidden channels (340,833 parameters)
for 20 epochs of AdamW on the H1 loss, on the files that the package ships. The output is encoded, batches have 32
samples, and the learning rate follows a cosine over 30 epochs. The example of version 2.0 is smaller and trains for
15 epochs.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Train, score at both resolutions, and write the scores as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    import torch
    from neuralop import H1Loss, LpLoss, Trainer
    from neuralop.data.datasets.darcy import DarcyDataset
    from neuralop.models import FNO
    from neuralop.training import AdamW
    from neuralop.utils import count_model_params

    torch.manual_seed(options.seed)
    data = DarcyDataset(
        root_dir=options.data,
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
        n_epochs=options.epochs,
        device="cpu",
        data_processor=data.data_processor,
        wandb_log=False,
        eval_interval=options.epochs,
        use_distributed=False,
        verbose=False,
    )
    losses = {"h1": H1Loss(d=2), "l2": LpLoss(d=2, p=2)}
    start = time.perf_counter()
    trainer.train(
        train_loader=learn,
        # The model is scored below, so that scoring is not part of the training time.
        test_loaders={},
        optimizer=optimizer,
        scheduler=scheduler,
        regularizer=False,
        training_loss=losses["h1"],
        eval_losses=losses,
    )
    seconds = time.perf_counter() - start
    model.eval()
    # In training mode the processor leaves the output encoded.
    data.data_processor.eval()
    errors = {}
    for n, batches in tests.items():
        sample_errors = []
        with torch.no_grad():
            for batch in batches:
                sample = data.data_processor.preprocess(dict(batch), batched=True)
                out, sample = data.data_processor.postprocess(model(sample["x"]), sample)
                axes = (1, 2, 3)
                error = torch.sqrt(((out - sample["y"]) ** 2).sum(axes) / (sample["y"] ** 2).sum(axes))
                sample_errors += error.tolist()
        errors[str(n)] = sum(sample_errors) / len(sample_errors)
    result = {
        "version": f"neuraloperator {version('neuraloperator')}",
        "seconds": seconds,
        "parameters": count_model_params(model),
        "relative_l2": errors,
    }
    options.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
