"""Programs that show channelmap at work."""
