"""The content of a COCO JSON file of two tiny images, and changed copies of it."""

WIDTH, HEIGHT = 40, 30


def make_coco() -> dict:
    """Two images, three boxes of two classes."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in (1, 2)]
    annotations = [
        {"id": i, "image_id": image_id, "category_id": category, "bbox": bbox, "area": 1, "iscrowd": 0}
        for i, image_id, category, bbox in [
            (1, 1, 7, [1, 2, 10, 8]),
            (2, 1, 5, [5, 5, 9, 9]),
            (3, 2, 7, [0, 0, 40, 30]),
        ]
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "dog"}, {"id": 5, "name": "cat"}],
    }


def changed(*path_and_value):
    """The tiny set with one value replaced, or removed where the value is ``...``."""
    *path, value = path_and_value
    content = make_coco()
    node = content
    for key in path[:-1]:
        node = node[key]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return content
