"""From a folder of pictures to a trained model and a grid of what it draws, without MLflow and without a search.

    python examples/train_on_a_folder.py /path/to/pictures OUT [IMAGE-SIZE] [EPOCHS]

The same command again carries on, or says that all is done.
"""

import sys
from pathlib import Path

import ddpm
from ddpm.data.ingest import ingest
from ddpm.device import pick_device
from ddpm.progress import open_progress
from ddpm.settings import IngestSettings, ModelSettings, TrainSettings
from ddpm.store import open_store
from ddpm.training.observer import NoObserver
from ddpm.training.trainer import Trainer
from ddpm.training.world import World

folder, out, size, epochs = [*sys.argv[1:], *("32", "20")[len(sys.argv) - 3 :]]
progress = open_progress()

source = IngestSettings(source=folder, dataset_name="mine", image_size=int(size))
pictures = ddpm.open_dataset(ingest(source, open_store(f"{out}/store"), progress)["uri"])

network = ModelSettings(channel_mults="1-2-4", base_channels=32, objective="edm", augment=0.12)
recipe = TrainSettings(lr=5e-4, epochs=int(epochs), batch_size=32, warmup_images=2000, ema_half_lives="5000")
trainer = Trainer(network, recipe, pictures, f"{out}/training", World(pick_device()))
trained = trainer.run(NoObserver(), progress)

model = ddpm.open_model(trained["checkpoint"])
ddpm.show(model.draw(range(16), model.quick(20, sample_batch=16))).save(Path(out, "grid.png"))
print(f"{trained['images_seen']:,} pictures seen; what it draws is in {out}/grid.png")
