"""What simulators wrote and surrogates read: stores, readers, splits and fixed-shape batches."""
