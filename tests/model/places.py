"""Where the engine takes each step of the models: file below ``engine/cometlog``, and function, with its class."""

APPENDER = "kernel/appender.pyx"
POSITION = "kernel/group_position.pyx"

PLACES = {
    # A2, B
    "A2 lock": ("slots.py", "Slots.take"),
    "A2 idle": ("slots.py", "Slots.take"),
    "B2": (APPENDER, "Appender.claim"),
    "B3": (APPENDER, "Appender.claim"),
    "B4": (APPENDER, "Appender.claim"),
    "B4 seal": (APPENDER, "Appender.claim"),
    "B5": (APPENDER, "Appender.claim"),
    "B6": (APPENDER, "Appender.claim"),
    "B7": (APPENDER, "Appender.claim"),
    "B8": (APPENDER, "Appender.try_payload"),
    "B9": (APPENDER, "Appender.commit"),
    "B10": (APPENDER, "Appender.append_payload"),
    # C
    "C": ("kernel/scan.pyx", "walk_step"),
    # D
    "D": ("repair.py", "Repairer.repair"),
    "D1 tail": ("repair.py", "Repairer._resolve"),
    "D1 word": ("repair.py", "Repairer._resolve"),
    "D2 look": ("judging.py", "Judge.owner_of_claim"),
    "D2 pad": ("repair.py", "Repairer._resolve_claim"),
    "D3 state": ("judging.py", "Judge.grace_period"),
    "D3 probe": ("judging.py", "Judge.grace_period"),
    "D3 wait": ("judging.py", "Judge.grace_period"),
    "D4 word": ("repair.py", "Repairer._resolve"),
    "D4 scan": ("judging.py", "next_used_unit"),
    "D4 pad": ("repair.py", "Repairer._pad_free_words"),
    "D5": ("repair.py", "Repairer._resolve"),
    # E
    "E1": ("control.py", "Control.mark_rotating"),
    "E2": ("shard.py", "Shard._somebody_rotates"),
    "E3": ("rotation.py", "next_header"),
    "E4": ("rotation.py", "PreparedFile.publish"),
    "E5": ("control.py", "Control.advance_active"),
    "E5 idle": ("control.py", "Control.mark_idle"),
    # F
    "F repair": ("recovery.py", "_Recovery.repair_all"),
    "F torn": ("recovery.py", "_Recovery._seal_torn_append"),
    "F active": ("recovery.py", "_Recovery._seal_torn_append"),
    "F walk": ("recovery.py", "_Recovery.keep_what_proves_itself"),
    "F discard": ("recovery.py", "_Recovery._end_here"),
    "F directory": ("recovery.py", "_Recovery._end_here"),
    "F seal": ("recovery.py", "_Recovery._end_here"),
    "F fdatasync": ("recovery.py", "_Recovery._end_here"),
    "F link": ("recovery.py", "_Recovery._start_new_segment"),
    "F sync new": ("recovery.py", "_Recovery._start_new_segment"),
    "F mark": ("recovery.py", "_Recovery._start_new_segment"),
    "F open": ("entrance.py", "Entrance._prepare"),
    # G
    "G tail": ("shard.py", "Shard.position"),
    "G resolve": ("durability.py", "Syncer._resolve_to_tail"),
    "G fdatasync": ("durability.py", "Syncer._sync_segments"),
    "G directory": ("durability.py", "Syncer._sync_segments"),
    "G mark": ("durability.py", "Syncer._write_mark"),
    # H, and what befalls a shard while it is open
    "append": (APPENDER, "Appender.append_payload"),
    "die in claim": (APPENDER, "Appender.claim"),
    "tear": ("kernel/frame_writer.pyx", "FrameWriter.finish"),
    "H seal": ("write_paths/file_lock.py", "FileLockPath._put"),
    # Group positions
    "acknowledge": (POSITION, "GroupPosition.ack"),
    "raise": (POSITION, "GroupPosition.raise_to"),
    "look": (POSITION, "GroupPosition.raise_to"),
    "reset checkpoint": ("group_offsets.py", "GroupOffsets._store"),
    "reset position": ("group_offsets.py", "GroupOffsets._store"),
    "reset again": ("group_offsets.py", "GroupOffsets._store"),
    "reset sync": ("group_offsets.py", "GroupOffsets.reset"),
    "checkpoint load": (POSITION, "GroupPosition.write_checkpoint"),
    "checkpoint store": (POSITION, "GroupPosition.write_checkpoint"),
    "checkpoint look": (POSITION, "GroupPosition.write_checkpoint"),
    "checkpoint sync": ("group_shard.py", "GroupShard.checkpoint"),
    "recovery lower": ("group_offsets.py", "GroupOffsets.lower_beyond"),
    "recovery sync": ("group_offsets.py", "GroupOffsets.lower_beyond"),
    # E, last paragraph
    "R pick": ("retention.py", "choose"),
    "R look": ("retention.py", "Retention._may_go"),
    "R unlink": ("retention.py", "Retention._remove"),
}
