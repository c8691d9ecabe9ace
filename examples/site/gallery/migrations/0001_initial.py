"""The table of pictures."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates the table."""

    initial = True
    operations = (
        migrations.CreateModel(
            name="Picture",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("original", models.ImageField(upload_to="originals")),
                ("thumbnail", models.ImageField(blank=True, upload_to="thumbnails")),
            ],
        ),
    )
