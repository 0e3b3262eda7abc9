//! What a run looks like: tables as CSV, pictures as SVG (S5).

use std::collections::{BTreeMap, BTreeSet};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::attack::{Outcome, label};
use super::metrics::Summary;

/// One line of a picture: its name, and x, y, and the bounds of y.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// Files by name: a table for every figure, and of every figure that was followed through the epochs.
pub fn tables(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let names: BTreeSet<&String> = outcome.runs.iter().flat_map(|run| run.metrics.keys()).collect();
    for name in names {
        let mut text = String::from("point,seed,value\n");
        for run in &outcome.runs {
            if let Some(value) = run.metrics.get(name) {
                let point = outcome.points.get(run.point).map(|point| label(&point.at)).unwrap_or_default();
                text += &format!("\"{}\",{},{value}\n", point.replace('"', "'"), run.seed);
            }
        }
        files.insert(format!("{name}.csv"), text);
    }
    for (name, curves) in series(outcome) {
        let mut text = String::from("point,epoch,mean,low,high\n");
        for curve in curves {
            for (epoch, mean, low, high) in curve.points {
                text += &format!("\"{}\",{epoch},{mean},{low},{high}\n", curve.name.replace('"', "'"));
            }
        }
        files.insert(format!("{name}.epochs.csv"), text);
    }
    files
}

/// Every figure that was followed, a curve for each point: the mean over all seeds and where it lies.
pub fn series(outcome: &Outcome) -> BTreeMap<String, Vec<Curve>> {
    let names: BTreeSet<&String> = outcome.runs.iter().flat_map(|run| run.series.keys()).collect();
    let mut found = BTreeMap::new();
    for name in names {
        let mut curves = Vec::new();
        for (at, point) in outcome.points.iter().enumerate() {
            let runs: Vec<&Vec<f64>> =
                outcome.runs.iter().filter(|run| run.point == at).filter_map(|run| run.series.get(name)).collect();
            let length = runs.iter().map(|run| run.len()).max().unwrap_or(0);
            let epoch = |epoch: usize| {
                let values: Vec<f64> = runs.iter().filter_map(|run| run.get(epoch)).copied().collect();
                Summary::of(&values).map(|s| (epoch as f64, s.mean, s.low, s.high))
            };
            curves.push(Curve { name: label(&point.at), points: (0..length).filter_map(epoch).collect() });
        }
        found.insert(name.clone(), curves);
    }
    found
}

/// A figure over the one swept number, a curve for each combination of everything else that was swept.
pub fn over(outcome: &Outcome, metric: &str, path: &str) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for point in &outcome.points {
        let (Some(x), Some(y)) = (point.at.get(path).and_then(serde_json::Value::as_f64), point.metrics.get(metric))
        else {
            continue;
        };
        let mut rest = point.at.clone();
        rest.remove(path);
        let name = if rest.is_empty() { metric.to_owned() } else { label(&rest) };
        let place = (x, y.mean, y.low, y.high);
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(place),
            None => curves.push(Curve { name, points: vec![place] }),
        }
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

/// The numbers that were swept.
pub fn swept(outcome: &Outcome) -> Vec<String> {
    let mut paths: BTreeSet<&String> = outcome.points.iter().flat_map(|point| point.at.keys()).collect();
    let number = |path: &String| {
        let values: Vec<Option<f64>> =
            outcome.points.iter().map(|p| p.at.get(path).and_then(serde_json::Value::as_f64)).collect();
        values.iter().all(Option::is_some) && values.windows(2).any(|pair| pair.first() != pair.last())
    };
    paths.retain(|path| number(path));
    paths.into_iter().cloned().collect()
}

/// Pictures by file name: each figure over what was swept, and through the epochs.
pub fn pictures(outcome: &Outcome) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let names: BTreeSet<&String> = outcome.points.iter().flat_map(|point| point.metrics.keys()).collect();
    for path in swept(outcome) {
        for name in &names {
            if let Ok(svg) = picture(&outcome.name, &path, name, &over(outcome, name, &path)) {
                let short: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                files.insert(format!("{name}.over.{short}.svg"), svg);
            }
        }
    }
    for (name, curves) in series(outcome) {
        if let Ok(svg) = picture(&outcome.name, "measured epoch", &name, &curves) {
            files.insert(format!("{name}.epochs.svg"), svg);
        }
    }
    files
}

const SIZE: (u32, u32) = (760, 420);
const INK: RGBColor = RGBColor(60, 60, 60);
/// Colours that people who see fewer of them can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A picture of curves, each with the band its mean lies in.
///
/// # Errors
/// There is nothing to draw, or the drawing failed; in words.
pub fn picture(title: &str, x_name: &str, y_name: &str, curves: &[Curve]) -> Result<String, String> {
    let places = || curves.iter().flat_map(|curve| &curve.points).filter(|place| place.1.is_finite());
    let bound = |pick: fn(f64, f64) -> f64, get: fn(&(f64, f64, f64, f64)) -> f64| places().map(get).reduce(pick);
    let (Some(left), Some(right), Some(bottom), Some(top)) = (
        bound(f64::min, |place| place.0),
        bound(f64::max, |place| place.0),
        bound(f64::min, |place| place.2.min(place.1)),
        bound(f64::max, |place| place.3.max(place.1)),
    ) else {
        return Err(format!("there is nothing to draw for {title}"));
    };
    let room = if top > bottom { (top - bottom) * 0.08 } else { 1e-3 };
    let right = if right > left { right } else { left + 1.0 };
    let mut svg = String::new();
    draw(&mut svg, title, [x_name, y_name], [left..right, bottom - room..top + room], curves)
        .map_err(|error| error.to_string())?;
    Ok(svg)
}

type Failure = Box<dyn std::error::Error>;

fn draw(
    svg: &mut String,
    title: &str,
    [x_name, y_name]: [&str; 2],
    [across, up]: [std::ops::Range<f64>; 2],
    curves: &[Curve],
) -> Result<(), Failure> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let font = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, font(17))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(across.clone(), up.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.15))
        .axis_style(INK)
        .label_style(font(12))
        .x_desc(x_name)
        .y_desc(y_name)
        .x_labels(8)
        .y_labels(8)
        .draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let upper = curve.points.iter().map(|place| (place.0, place.3));
        let lower = curve.points.iter().rev().map(|place| (place.0, place.2));
        chart.draw_series([Polygon::new(upper.chain(lower).collect::<Vec<_>>(), colour.mix(0.15))])?;
        let line = curve.points.iter().map(|place| (place.0, place.1));
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        if curve.points.len() <= 24 {
            let dots = curve.points.iter().map(|place| Circle::new((place.0, place.1), 3, colour.filled()));
            chart.draw_series(dots)?;
        }
    }
    let style = font(11).pos(Pos::new(HPos::Left, VPos::Center));
    for (at, (curve, colour)) in (0..).zip(curves.iter().zip(COLOURS.iter().cycle())).take(8) {
        let y = 44 + at * 15;
        root.draw(&PathElement::new(vec![(80, y), (100, y)], colour.stroke_width(3)))?;
        root.draw(&Text::new(curve.name.clone(), (106, y), style.clone()))?;
    }
    root.present()?;
    Ok(())
}
