"""The page, the upload, and the thumbnails."""

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.forms import modelform_factory
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET, require_POST

from channelmap import get_channel_layer
from gallery.drawing import draw
from gallery.models import Picture

UploadForm = modelform_factory(Picture, fields=["original"])


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Show all pictures, the newest first."""
    return render(request, "gallery/index.html", {"pictures": Picture.objects.order_by("-id")})


@require_POST
@transaction.atomic
def upload(request: HttpRequest) -> HttpResponse:
    """Keep the uploaded picture, or one that is drawn here, and let a worker draw its thumbnail."""
    files = {"original": SimpleUploadedFile("drawn.png", draw())} if "draw" in request.POST else request.FILES
    form = UploadForm(files=files)
    if not form.is_valid():
        return JsonResponse({"error": form.errors["original"][0]}, status=400)
    picture = form.save()
    # It is sent after the commit: a worker would not find the row before.
    get_channel_layer().send_on_commit("thumbnails", {"type": "picture.uploaded", "id": picture.id})
    return JsonResponse(picture.as_update(), status=201)


@require_GET
def thumbnail(request: HttpRequest, picture_id: int) -> HttpResponse:  # noqa: ARG001
    """Show a thumbnail."""
    picture = get_object_or_404(Picture.objects.exclude(thumbnail=""), id=picture_id)
    with picture.thumbnail.open() as file:
        return HttpResponse(file.read(), content_type="image/png")
