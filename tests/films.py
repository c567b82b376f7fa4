"""Reading back what was filmed."""

import cv2


def read_film(path):
    """Its pictures [H, W, 3] (red, green, blue; int), and how many of them a second."""
    video = cv2.VideoCapture(str(path))
    fps, pictures = video.get(cv2.CAP_PROP_FPS), []
    while True:
        there, picture = video.read()
        if not there:
            break
        pictures.append(picture[:, :, ::-1].astype(int))
    video.release()
    return pictures, fps
